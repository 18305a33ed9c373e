"""Device code only: what the GPUs compile. No host logic lives here.

::

    sha256_rounds.h       SHA-256's compression function, compiled by both languages
    nonce_search.h        counter to digits to message words, and the test for leading zeros; likewise shared
    sha256.cl             OpenCL, any space: the kernels `search_one_block`, `search_two_blocks`
    lane_search.cl        OpenCL, shapes T and S of `hashfleet.message`; with lane_search_short.h for S
    sha256.cu             CUDA: the twins of sha256.cl, and the three headers below
    multiply_add.h        CUDA: rounds whose additions go to the multiply-add pipe, and what a launch of lanes is
    search_shared.h       CUDA, shape T
    search_short.h        CUDA, shape S

`gpu_worker.kernel_source` puts the pieces together; `gpu_worker.kernel_parameters` and `gpu_worker.lanes` fill what the
kernels read.
"""
