"""The kernel text: complete, compiled without a warning by every compiler we have here."""

from __future__ import annotations

import ctypes
import re
import sysconfig
from pathlib import Path

import pytest

from gpu_worker.cuda_engine import COMPILE_OPTIONS
from gpu_worker.kernel_source import ENTRY_POINTS, cuda_source, opencl_source
from hashfleet.message import ROUND_CONSTANTS

#: From Turing on; what an NVRTC release no longer or not yet knows is left out, but never all of them.
CUDA_ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)


@pytest.mark.parametrize("source", [opencl_source, cuda_source], ids=["opencl", "cuda"])
def test_the_source_is_one_text_with_both_kernels_and_no_include(source: object) -> None:
    assert callable(source)
    text = source()

    assert "#include" not in text
    for entry in ENTRY_POINTS.values():
        assert len(re.findall(rf"void {entry}\(", text)) == 1


@pytest.mark.parametrize("source", [opencl_source(), cuda_source()], ids=["opencl", "cuda"])
def test_the_round_constants_are_those_of_the_host(source: str) -> None:
    table = source.partition("ROUND_CONSTANTS[64] = {")[2].partition("}")[0]

    assert tuple(int(word, 16) for word in re.findall(r"0x([0-9a-f]{8})u", table)) == ROUND_CONSTANTS


def test_the_opencl_source_compiles_as_opencl_1_2_without_a_warning() -> None:
    cl = pytest.importorskip("pyopencl")
    try:
        device = cl.get_platforms()[0].get_devices()[0]
    except (cl.Error, IndexError):
        pytest.skip("this machine has no OpenCL device")
    program = cl.Program(cl.Context([device]), opencl_source()).build(["-cl-std=CL1.2", "-Werror"], cache_dir=False)

    assert {kernel.function_name for kernel in program.all_kernels()} == set(ENTRY_POINTS.values())


class Nvrtc:
    """NVIDIA's run-time compiler, from the package nvidia-cuda-nvrtc; needs no GPU."""

    def __init__(self, library: Path) -> None:
        self.library = ctypes.CDLL(str(library))

    def architectures(self) -> list[int]:
        count = ctypes.c_int()
        assert self.library.nvrtcGetNumSupportedArchs(ctypes.byref(count)) == 0
        found = (ctypes.c_int * count.value)()
        assert self.library.nvrtcGetSupportedArchs(found) == 0
        return list(found)

    def compile(self, source: str, options: list[str]) -> tuple[str, str]:
        """PTX and log; fails the test if the source does not compile."""
        program = ctypes.c_void_p()
        made = self.library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"sha256.cu", 0, None, None)
        assert made == 0
        arguments = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        status = self.library.nvrtcCompileProgram(program, len(options), arguments)
        log = self._text(program, "ProgramLog")
        assert status == 0, log
        ptx = self._text(program, "PTX")
        self.library.nvrtcDestroyProgram(ctypes.byref(program))
        return ptx, log

    def _text(self, program: ctypes.c_void_p, what: str) -> str:
        size = ctypes.c_size_t()
        assert getattr(self.library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)) == 0
        text = ctypes.create_string_buffer(size.value)
        assert getattr(self.library, f"nvrtcGet{what}")(program, text) == 0
        return text.value.decode()


@pytest.fixture(scope="module")
def nvrtc() -> Nvrtc:
    """The compiler, where the package is installed."""
    libraries = sorted(Path(sysconfig.get_path("purelib"), "nvidia").glob("**/libnvrtc.so.*"))
    if not libraries:
        pytest.skip("the package nvidia-cuda-nvrtc is not installed, so CUDA source cannot be compiled here")
    return Nvrtc(libraries[0])


@pytest.mark.parametrize("architecture", CUDA_ARCHITECTURES)
def test_the_cuda_source_compiles_without_a_warning(nvrtc: Nvrtc, architecture: int) -> None:
    if architecture not in nvrtc.architectures():
        pytest.skip(f"this NVRTC does not compile for compute_{architecture}")
    ptx, log = nvrtc.compile(cuda_source(), [*COMPILE_OPTIONS, f"--gpu-architecture=compute_{architecture}"])

    assert "warning" not in log, log
    for entry in ENTRY_POINTS.values():
        assert f".entry {entry}(" in ptx


def test_some_cuda_architecture_is_compiled_for(nvrtc: Nvrtc) -> None:
    assert set(CUDA_ARCHITECTURES) & set(nvrtc.architectures())


def test_the_message_words_stay_in_registers(nvrtc: Nvrtc) -> None:
    architecture = max(set(CUDA_ARCHITECTURES) & set(nvrtc.architectures()))
    ptx, _ = nvrtc.compile(cuda_source(), [*COMPILE_OPTIONS, f"--gpu-architecture=compute_{architecture}"])

    # An index that the compiler cannot resolve would move w[] to local memory, which is ten times slower.
    assert ".local" not in ptx
