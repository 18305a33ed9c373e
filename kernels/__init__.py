"""Device code only: what the GPUs compile. No host logic lives here.

::

    sha256_rounds.h   SHA-256's compression function, compiled by both languages
    nonce_search.h    counter to digits to message words, and the test for leading zeros; likewise shared
    sha256.cl         OpenCL: the words the two headers need, and the kernels `search_one_block`, `search_two_blocks`
    sha256.cu         CUDA: the same

`gpu_worker.kernel_source` puts the pieces together; `gpu_worker.kernel_parameters` fills what the kernels read.
"""
