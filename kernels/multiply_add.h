/* CUDA only: SHA-256's rounds with their additions on the multiply-add pipe.
 *
 * From Volta to Hopper shifts, logic and three-input adds share one pipe (ALU, 16 lanes a quarter of an SM) and
 * integer multiply-add has another of the same width; both are fed by one instruction per cycle, enough for 32 lanes.
 * SHA-256 is bound by the first pipe: a round has 6 rotations and 4 three-input logic operations, which have no other
 * place. So its 6 additions go to the second, as x * 1 + y, with a 1 that the compiler cannot see through.
 *
 * Some of the rotations can follow: (x * 2^30) has x << 30 in its lower and x >> 2 in its upper word, and their sum is
 * the rotation by 2. BIG_SIGMA0 written as rotr(y, 2) with y = x ^ rotr(x, 11) ^ rotr(x, 20) thus costs an ALU slot less
 * and three multiply-add slots more, if a 64-bit product takes two, as we assume. Whether that pays depends on the chip:
 * the host compiles several MULTIPLIED_OF_FOUR (in how many of four rounds it is done, 0 to 4) and keeps the one that
 * measures fastest.
 */
#ifndef MULTIPLIED_OF_FOUR
#define MULTIPLIED_OF_FOUR 0
#endif

/* Passed as a kernel argument, so that the compiler keeps the multiplications. */
struct Factors {
    word32 one; /* 1 */
    word32 up;  /* 2^30 */
};

/* x * factor + y, modulo 2^32, as one multiply-add. */
DEVICE_FUNCTION word32 multiply_add(word32 x, word32 factor, word32 y)
{
#ifdef __CUDA_ARCH__
    word32 sum;
    asm("mad.lo.u32 %0, %1, %2, %3;" : "=r"(sum) : "r"(x), "r"(factor), "r"(y));
    return sum;
#else
    return x * factor + y;
#endif
}

#define ADD(x, y) multiply_add(x, factors.one, y)

/* sum + BIG_SIGMA0(x) */
DEVICE_FUNCTION word32 add_big_sigma0(const Factors factors, word32 sum, word32 x, const bool by_product)
{
    if (!by_product)
        return ADD(BIG_SIGMA0(x), sum);
    word32 y = x ^ ROTR(x, 11) ^ ROTR(x, 20), upper, lower;
#ifdef __CUDA_ARCH__
    /* In assembler too: what the compiler makes of a 64-bit product adds one of its words on the ALU pipe. */
    asm("{ .reg .b64 product; mul.wide.u32 product, %2, %3; mov.b64 {%0, %1}, product; }"
        : "=r"(lower), "=r"(upper) : "r"(y), "r"(factors.up));
#else
    upper = y >> 2, lower = y << 30;
#endif
    return ADD(lower, ADD(upper, sum));
}

/* Round i; `word` is its message word plus its constant. The callers rename a..h instead of moving eight values. */
#define ADDED_ROUND(a, b, c, d, e, f, g, h, i, word)                                                \
    do {                                                                                            \
        word32 t1 = ADD(BIG_SIGMA1(e), ADD(CHOOSE(e, f, g), ADD(h, word)));                         \
        d = ADD(d, t1);                                                                             \
        h = add_big_sigma0(factors, ADD(MAJORITY(a, b, c), t1), a, (i) % 4 < MULTIPLIED_OF_FOUR);   \
    } while (0)

/* Rounds i to i + 7; WORD(i) is what round i takes. */
#define EIGHT_ROUNDS(i, WORD)                                  \
    do {                                                       \
        ADDED_ROUND(a, b, c, d, e, f, g, h, i, WORD(i));             \
        ADDED_ROUND(h, a, b, c, d, e, f, g, i + 1, WORD(i + 1));     \
        ADDED_ROUND(g, h, a, b, c, d, e, f, i + 2, WORD(i + 2));     \
        ADDED_ROUND(f, g, h, a, b, c, d, e, i + 3, WORD(i + 3));     \
        ADDED_ROUND(e, f, g, h, a, b, c, d, i + 4, WORD(i + 4));     \
        ADDED_ROUND(d, e, f, g, h, a, b, c, i + 5, WORD(i + 5));     \
        ADDED_ROUND(c, d, e, f, g, h, a, b, i + 6, WORD(i + 6));     \
        ADDED_ROUND(b, c, d, e, f, g, h, a, i + 7, WORD(i + 7));     \
    } while (0)

/* The chaining values a..h before the first round whose word varies, and the value of word 0 that the digest adds. */
struct Lane {
    word32 a, b, c, d, e, f, g, h;
    word32 feed;
};

/* From `state`, rounds 0 to rounds - 1 of `words`, and round `rounds` without its word.
 *
 * What is still missing of that round is the addition of its word to `a` and to `e`.
 */
DEVICE_FUNCTION Lane begun_lane(const word32 state[8], const word32 words[16], const int rounds)
{
    Lane lane = {state[0], state[1], state[2], state[3], state[4], state[5], state[6], state[7], state[0]};
#pragma unroll
    for (int i = 0; i <= rounds; i++) {
        word32 word = i < rounds ? words[i] : 0u;
        word32 t1 = lane.h + BIG_SIGMA1(lane.e) + CHOOSE(lane.e, lane.f, lane.g) + ROUND_CONSTANTS[i] + word;
        word32 t2 = BIG_SIGMA0(lane.a) + MAJORITY(lane.a, lane.b, lane.c);
        lane.h = lane.g;
        lane.g = lane.f;
        lane.f = lane.e;
        lane.e = lane.d + t1;
        lane.d = lane.c;
        lane.c = lane.b;
        lane.b = lane.a;
        lane.a = t1 + t2;
    }
    return lane;
}

/* Write the decimal digits of `value` < 10^16 over the "0"s of the four words that end before words[end]. */
DEVICE_FUNCTION void write_digits(word32 words[16], const int end, word64 value)
{
    word64 high = value / 100000000u;
    word32 upper = (word32)high, lower = (word32)(value - 100000000u * high);
    words[end - 4] += four_digits(upper / 10000u);
    words[end - 3] += four_digits(upper % 10000u);
    words[end - 2] += four_digits(lower / 10000u);
    words[end - 1] += four_digits(lower % 10000u);
}

/* Which nonces a launch hashes: all tails of its lanes, less `skip` nonces of the first lane and what lies `count` or
 * more behind those. Only the tails first_tail .. end_tail - 1 are tried, in pieces of tails_per_thread. Grid: x the
 * lanes, one thread each; y the pieces.
 *
 * Every thread goes through the same tails, so that a row of the table is read once per warp and nothing diverges. What
 * is hashed outside the stretch at its two ends is not reported. */
struct Stretch {
    word32 skip, count;
    word32 first_tail, end_tail, tails_per_thread;
};

#define FIRST_TAIL(stretch) ((stretch).first_tail + blockIdx.y * (stretch).tails_per_thread)
#define END_TAIL(stretch) min(FIRST_TAIL(stretch) + (stretch).tails_per_thread, (stretch).end_tail)

/* A thread's lane, counted from the launch's first. */
#define LANE_INDEX (blockIdx.x * blockDim.x + threadIdx.x)

/* What a launch's lanes are. They follow one another from first_lane on in one search (`columns` is 0), or each is given
 * by itself, so that they may be of many searches. What tells the cases apart is done once per lane.
 *
 * The parameters are rows of words. A row has one word for all lanes, every digit '0'; or it has `columns` words, one
 * per lane, the lane's digits written:
 *      0 ..  7   the chaining value before the block that the high digits vary
 *      8 .. 23   that block
 *     24         mask: a nonce is a hit if no masked bit of its digest's first word is set
 */
struct Lanes {
    const word32 *__restrict__ parameters;
    word32 columns;
    word64 first_lane;
};

/* A thread's row of the parameters. */
DEVICE_FUNCTION word32 row_of_lane(const Lanes lanes, const int i)
{
    return lanes.parameters[lanes.columns == 0 ? i : i * lanes.columns + LANE_INDEX];
}
#define MASK_ROW 24

/* A thread's chaining value and block, its digits written up to words[end]. */
DEVICE_FUNCTION void read_lane(const Lanes lanes, word32 state[8], word32 words[16], const int end)
{
#pragma unroll
    for (int i = 0; i < 8; i++)
        state[i] = row_of_lane(lanes, i);
#pragma unroll
    for (int i = 0; i < 16; i++)
        words[i] = row_of_lane(lanes, 8 + i);
    if (lanes.columns == 0)
        write_digits(words, end, lanes.first_lane + LANE_INDEX);
}

/* Found: the first word of this nonce's digest has no bit of the mask set. A nonce before the stretch's start or behind
 * its end has a distance of `count` or more, modulo 2^32. */
DEVICE_FUNCTION void report_survivor(const Stretch stretch, const word32 tails_per_lane, const word32 tail,
                                     const word32 capacity, word32 *found)
{
    word32 distance = LANE_INDEX * tails_per_lane + tail - stretch.skip;
    if (distance < stretch.count)
        report(found, capacity, distance);
}

/* What every kernel takes whose threads own lanes; ROW is the type of the table's elements. Filled in by
 * gpu_worker/gpu_engine.py. A thread beyond the lanes ends at once. */
#define LANE_KERNEL(NAME, ROW)                                                                                      \
    extern "C" __global__ void __launch_bounds__(256)                                                               \
    NAME(const word32 *__restrict__ parameters, const word32 columns, const ROW *__restrict__ table,                \
         const word64 first_lane, const word32 lanes, const word32 skip, const word32 count,                        \
         const word32 first_tail, const word32 end_tail, const word32 tails_per_thread, const word32 one,           \
         const word32 up, const word32 capacity, word32 *found)
#define LANE_STRETCH {skip, count, first_tail, end_tail, tails_per_thread}
#define LANE_LANES {parameters, columns, first_lane}
#define LANE_FACTORS {one, up}
