/* SHA-256's compression function (FIPS 180-4, 6.2.2), compiled as OpenCL C and as CUDA C++.
 *
 * The language file defines beforehand:
 *     word32, word64     unsigned integers of 32 and 64 bits
 *     DEVICE_FUNCTION    what stands before a function that is inlined into the kernel
 *     CONSTANT_TABLE     what stands before a read-only table in constant memory
 * and may define
 *     VECTOR32           word32, or a vector of them: so many messages are hashed at once
 */
#ifndef VECTOR32
#define VECTOR32 word32
#endif

CONSTANT_TABLE word32 ROUND_CONSTANTS[64] = {
    0x428a2f98u, 0x71374491u, 0xb5c0fbcfu, 0xe9b5dba5u, 0x3956c25bu, 0x59f111f1u, 0x923f82a4u, 0xab1c5ed5u,
    0xd807aa98u, 0x12835b01u, 0x243185beu, 0x550c7dc3u, 0x72be5d74u, 0x80deb1feu, 0x9bdc06a7u, 0xc19bf174u,
    0xe49b69c1u, 0xefbe4786u, 0x0fc19dc6u, 0x240ca1ccu, 0x2de92c6fu, 0x4a7484aau, 0x5cb0a9dcu, 0x76f988dau,
    0x983e5152u, 0xa831c66du, 0xb00327c8u, 0xbf597fc7u, 0xc6e00bf3u, 0xd5a79147u, 0x06ca6351u, 0x14292967u,
    0x27b70a85u, 0x2e1b2138u, 0x4d2c6dfcu, 0x53380d13u, 0x650a7354u, 0x766a0abbu, 0x81c2c92eu, 0x92722c85u,
    0xa2bfe8a1u, 0xa81a664bu, 0xc24b8b70u, 0xc76c51a3u, 0xd192e819u, 0xd6990624u, 0xf40e3585u, 0x106aa070u,
    0x19a4c116u, 0x1e376c08u, 0x2748774cu, 0x34b0bcb5u, 0x391c0cb3u, 0x4ed8aa4au, 0x5b9cca4fu, 0x682e6ff3u,
    0x748f82eeu, 0x78a5636fu, 0x84c87814u, 0x8cc70208u, 0x90befffau, 0xa4506cebu, 0xbef9a3f7u, 0xc67178f2u,
};

/* Written as shift and or: both compilers turn it into one rotate. */
#define ROTR(x, n) (((x) >> (n)) | ((x) << (32 - (n))))
#define BIG_SIGMA0(x) (ROTR(x, 2) ^ ROTR(x, 13) ^ ROTR(x, 22))
#define BIG_SIGMA1(x) (ROTR(x, 6) ^ ROTR(x, 11) ^ ROTR(x, 25))
#define SMALL_SIGMA0(x) (ROTR(x, 7) ^ ROTR(x, 18) ^ ((x) >> 3))
#define SMALL_SIGMA1(x) (ROTR(x, 17) ^ ROTR(x, 19) ^ ((x) >> 10))
/* The cheaper of the equal forms where there is no three-input logic; a compiler with one (LOP3) folds either. */
#define CHOOSE(x, y, z) ((z) ^ ((x) & ((y) ^ (z))))
#define MAJORITY(x, y, z) (((x) & (y)) | ((z) & ((x) | (y))))

/* One round; the callers rename a..h instead of moving eight values. */
#define ROUND(a, b, c, d, e, f, g, h, i)                                                        \
    do {                                                                                        \
        VECTOR32 t1 = h + BIG_SIGMA1(e) + CHOOSE(e, f, g) + ROUND_CONSTANTS[round + (i)] + w[i]; \
        d += t1;                                                                                \
        h = t1 + BIG_SIGMA0(a) + MAJORITY(a, b, c);                                             \
    } while (0)

/* The schedule's next word, in place of the one 16 rounds older. */
#define NEXT_WORD(i) \
    w[i] += SMALL_SIGMA0(w[((i) + 1) & 15]) + w[((i) + 9) & 15] + SMALL_SIGMA1(w[((i) + 14) & 15])

/* state = compress(state, w). Every index into w is a constant, so that w lives in registers; w is used up. */
DEVICE_FUNCTION void sha256_compress(VECTOR32 state[8], VECTOR32 w[16])
{
    VECTOR32 a = state[0], b = state[1], c = state[2], d = state[3];
    VECTOR32 e = state[4], f = state[5], g = state[6], h = state[7];

#pragma unroll
    for (int round = 0; round < 64; round += 16) {
        if (round != 0) {
            NEXT_WORD(0); NEXT_WORD(1); NEXT_WORD(2); NEXT_WORD(3);
            NEXT_WORD(4); NEXT_WORD(5); NEXT_WORD(6); NEXT_WORD(7);
            NEXT_WORD(8); NEXT_WORD(9); NEXT_WORD(10); NEXT_WORD(11);
            NEXT_WORD(12); NEXT_WORD(13); NEXT_WORD(14); NEXT_WORD(15);
        }
        ROUND(a, b, c, d, e, f, g, h, 0);
        ROUND(h, a, b, c, d, e, f, g, 1);
        ROUND(g, h, a, b, c, d, e, f, 2);
        ROUND(f, g, h, a, b, c, d, e, 3);
        ROUND(e, f, g, h, a, b, c, d, 4);
        ROUND(d, e, f, g, h, a, b, c, 5);
        ROUND(c, d, e, f, g, h, a, b, 6);
        ROUND(b, c, d, e, f, g, h, a, 7);
        ROUND(a, b, c, d, e, f, g, h, 8);
        ROUND(h, a, b, c, d, e, f, g, 9);
        ROUND(g, h, a, b, c, d, e, f, 10);
        ROUND(f, g, h, a, b, c, d, e, 11);
        ROUND(e, f, g, h, a, b, c, d, 12);
        ROUND(d, e, f, g, h, a, b, c, 13);
        ROUND(c, d, e, f, g, h, a, b, 14);
        ROUND(b, c, d, e, f, g, h, a, 15);
    }

    state[0] += a; state[1] += b; state[2] += c; state[3] += d;
    state[4] += e; state[5] += f; state[6] += g; state[7] += h;
}
