/* OpenCL C 1.2 and later: the kernels for the two nonce shapes of hashfleet/message.py.
 *
 * Both share one plan. A *lane* is one value of the counter's high digits, a *tail* one value of its low digits. A work
 * item owns WIDTH lanes, does for them once what does not depend on the tail, then goes through some of the tails. All
 * work items read the tails' table at the same address at the same time: a broadcast on every device.
 *
 * The host defines
 *     WIDTH    lanes per work item: 1 on a GPU, whose compiler spreads work items over its vector units by itself;
 *              on a CPU the number of 32-bit words in a vector register (PoCL vectorises no loop that may report a hit)
 * and may define, for NVIDIA's GPUs and WIDTH 1,
 *     MULTIPLY_ADD    the compiler's keyword for assembler: asm, or __asm__ in clang. The additions of the hot loops are
 *                     then multiply-adds, on a pipe of their own; multiply_add.h says why. `tools/count_sass.py` counts
 *                     513 slots of the ALU pipe a hash in shape T on sm_90, instead of 616
 *
 * The lanes of a launch follow one another in one search (`columns` is 0), or each is given by itself, so that they may
 * be of many searches. What tells the cases apart is done once per lane; the hot loops are the same.
 *
 * The parameters are rows of 32-bit words (`gpu_worker/lanes.py`; the CUDA kernels read the same). A row has one word
 * for all lanes, every digit '0'; or it has `columns` words, one per lane, the lane's digits written:
 *      0 ..  7   chaining value before the block with the high digits
 *      8 .. 23   that block
 *     24         mask: a nonce is a hit if no masked bit of its digest's first word is set
 */

typedef uint word32;
typedef ulong word64;
#define DEVICE_FUNCTION static inline
#define CONSTANT_TABLE __constant const

#if WIDTH == 1
typedef uint vector32;
#define NUMBERED 0u
#define ANY_ZERO(x) ((x) == 0u)
#else
#define JOINED(x, y) x##y
#define OF_WIDTH(name, width) JOINED(name, width)
typedef OF_WIDTH(uint, WIDTH) vector32;
__constant const word32 NUMBERS[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#define NUMBERED OF_WIDTH(vload, WIDTH)(0, NUMBERS)
#define ANY_ZERO(x) any((x) == (vector32)(0u))
#endif

#define VECTOR32 vector32
#include "sha256_rounds.h"

#if WIDTH == 16 && defined(__AVX512F__) && defined(__has_builtin)
#if __has_builtin(__builtin_ia32_pternlogd512_mask)
/* One instruction, of which PoCL's compiler (LLVM 15) makes two by itself. */
#undef MAJORITY
#define MAJORITY(x, y, z) \
    as_uint16(__builtin_ia32_pternlogd512_mask(as_int16(x), as_int16(y), as_int16(z), 0xe8, (ushort)0xffff))
#endif
#endif

#ifdef MULTIPLY_ADD
/* x * one + y, with a `one` that is 1 and that the compiler cannot see through: a kernel's argument. */
static inline word32 multiply_add(word32 x, word32 one, word32 y)
{
    word32 sum;
    MULTIPLY_ADD("mad.lo.u32 %0, %1, %2, %3;" : "=r"(sum) : "r"(x), "r"(one), "r"(y));
    return sum;
}
#define ADD(x, y) multiply_add(x, one, y)
#else
#define ADD(x, y) ((x) + (y))
#endif

/* Round i; `word` is its message word plus its constant. The callers rename a..h instead of moving eight values. */
#define LANE_ROUND(a, b, c, d, e, f, g, h, word)                                  \
    do {                                                                          \
        vector32 t1 = ADD(CHOOSE(e, f, g), ADD(BIG_SIGMA1(e), ADD(h, word)));     \
        d = ADD(d, t1);                                                           \
        h = ADD(MAJORITY(a, b, c), ADD(BIG_SIGMA0(a), t1));                       \
    } while (0)

/* Rounds i to i + 7; WORD(i) is what round i takes. */
#define EIGHT_ROUNDS(i, WORD)                                  \
    do {                                                       \
        LANE_ROUND(a, b, c, d, e, f, g, h, WORD(i));           \
        LANE_ROUND(h, a, b, c, d, e, f, g, WORD((i) + 1));     \
        LANE_ROUND(g, h, a, b, c, d, e, f, WORD((i) + 2));     \
        LANE_ROUND(f, g, h, a, b, c, d, e, WORD((i) + 3));     \
        LANE_ROUND(e, f, g, h, a, b, c, d, WORD((i) + 4));     \
        LANE_ROUND(d, e, f, g, h, a, b, c, WORD((i) + 5));     \
        LANE_ROUND(c, d, e, f, g, h, a, b, WORD((i) + 6));     \
        LANE_ROUND(b, c, d, e, f, g, h, a, WORD((i) + 7));     \
    } while (0)

/* state = its a..h after rounds 0 to rounds - 1 of these words, constants included, and round `rounds` without its
 * word, which is then missing in a and in e. `rounds` is a constant below LAST_WORDS; so is the loop's end, for the
 * unrolling. */
#define LAST_WORDS 14
static inline void begin_rounds(vector32 state[8], const vector32 words[16], const int rounds)
{
    vector32 a = state[0], b = state[1], c = state[2], d = state[3];
    vector32 e = state[4], f = state[5], g = state[6], h = state[7];
#pragma unroll
    for (int i = 0; i < LAST_WORDS; i++) {
        if (i > rounds)
            continue;
        vector32 word = i < rounds ? words[i] : (vector32)(ROUND_CONSTANTS[i]);
        vector32 t1 = h + word + BIG_SIGMA1(e) + CHOOSE(e, f, g);
        vector32 t2 = BIG_SIGMA0(a) + MAJORITY(a, b, c);
        h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
    }
    state[0] = a, state[1] = b, state[2] = c, state[3] = d;
    state[4] = e, state[5] = f, state[6] = g, state[7] = h;
}

/* 0 .. 9999 as four bytes 0 .. 9, the thousands in the highest: what is added to the ASCII text "0000". */
static inline vector32 four_digits(vector32 value)
{
    vector32 hundreds = value / 100u, rest = value - 100u * hundreds;
    vector32 a = hundreds / 10u, c = rest / 10u;
    return a << 24 | (hundreds - 10u * a) << 16 | c << 8 | (rest - 10u * c);
}

/* Row i of the parameters, for this work item's lanes. */
static inline vector32 row_of_lanes(__global const word32 *parameters, const word32 columns, const int i)
{
    if (columns == 0)
        return (vector32)(parameters[i]);
#if WIDTH == 1
    return parameters[i * columns + get_global_id(0)];
#else
    return OF_WIDTH(vload, WIDTH)(get_global_id(0), parameters + i * columns);
#endif
}

/* Write the digits of this work item's lanes over the "0"s of the four words before words[end]. */
static inline void write_lanes(vector32 words[16], const int end, const word64 first_lane)
{
    /* 64 bits only for one number: the others differ from it by less than WIDTH. */
    const word64 first = first_lane + get_global_id(0) * WIDTH;
    const word64 high = first / 100000000u;
    const vector32 number = (word32)(first - 100000000u * high) + (vector32)(NUMBERED);
    const vector32 carry = number / 100000000u;
    const vector32 upper = (word32)high + carry, lower = number - 100000000u * carry;
    words[end - 4] += four_digits(upper / 10000u);
    words[end - 3] += four_digits(upper % 10000u);
    words[end - 2] += four_digits(lower / 10000u);
    words[end - 1] += four_digits(lower % 10000u);
}

/* The rare path: report those of this work item's lanes whose `masked` word is zero.
 *
 * found[0] counts the hits; found[1 ..] are their distances from the launch's first nonce, as far as `capacity` goes,
 * in no order. Nonces before the first have a distance of `count` or more, modulo 2^32, as have those behind the last.
 */
static inline void report_lanes(const vector32 masked, const word32 tail, const word32 tails_per_lane,
                                const word32 skip, const word32 count, const word32 capacity, __global word32 *found)
{
    word32 words[WIDTH];
#if WIDTH == 1
    words[0] = masked;
#else
    OF_WIDTH(vstore, WIDTH)(masked, 0, words);
#endif
    for (word32 i = 0; i < WIDTH; i++) {
        word32 distance = ((word32)get_global_id(0) * WIDTH + i) * tails_per_lane + tail - skip;
        if (words[i] == 0 && distance < count) {
            word32 slot = atomic_inc(found);
            if (slot < capacity)
                found[1 + slot] = distance;
        }
    }
}

/* The arguments of every kernel. Grid: x the lanes, WIDTH for each work item; y the tails, tails_per_item for each
 * group, which is 1 high: so the compiler knows that all of a group read the table at the same place.
 *
 *     parameters, columns        see above
 *     first_lane                 the first lane's number, if `columns` is 0
 *     lanes                      how many; a work item beyond them ends at once
 *     skip, count                the range begins with the first lane's nonce number `skip` and has `count` nonces
 *     first_tail, end_tail       the tails to try: first_tail .. end_tail - 1
 *     one                        1
 *     capacity, found            see report_lanes
 *
 * What does not belong to the range in its first and last lanes is hashed for nothing and not reported. With more than
 * eight zeros asked for one nonce in 2^32 is a hit here and not to the host, which checks them.
 */
#define LANE_ARGUMENTS                                                                                        \
    __global const word32 *restrict parameters, const word32 columns, __global const word32 *restrict table,  \
        const word64 first_lane, const word32 lanes, const word32 skip, const word32 count,                   \
        const word32 first_tail, const word32 end_tail, const word32 tails_per_item, const word32 one,        \
        const word32 capacity, __global word32 *restrict found

/* What every kernel does first: `state` and `words` of its lanes, up to the four words before words[end]. */
#define BEGIN_LANES(state, words, end)                            \
    if (get_global_id(0) * WIDTH >= lanes)                        \
        return;                                                   \
    for (int i = 0; i < 8; i++)                                   \
        state[i] = row_of_lanes(parameters, columns, i);          \
    for (int i = 0; i < 16; i++)                                  \
        words[i] = row_of_lanes(parameters, columns, 8 + i);      \
    if (columns == 0)                                             \
        write_lanes(words, end, first_lane);                      \
    const vector32 mask = row_of_lanes(parameters, columns, 24)

/* Shape T. The table has a row of 52 words per tail: word 12 of the last block, then word + constant of rounds 13 to
 * 63.
 *
 * Per hash 51 rounds remain and no schedule. LLVM 15 makes of them 822 vector operations on AVX-512, where a rotation
 * and three-input logic are one each (126 million hashes per second of a core on PoCL 3.1), and 775 on AMD's RDNA 2.
 * CHOOSE and MAJORITY by OpenCL's bitselect, which looks like the one instruction that they are, hide that from the
 * compiler: 107 million on PoCL.
 */
#define FILLER 0x30303030u
#define SCHEDULE_WORDS 52
#if WIDTH == 1
#define SCHEDULE_WORD(i) schedule[(i) - 12]
#else
#define SCHEDULE_WORD(i) row[(i) - 12]
#endif

__kernel void search_shared(LANE_ARGUMENTS)
{
    vector32 state[8], words[16];
    BEGIN_LANES(state, words, 16);
    sha256_compress(state, words);
    const vector32 feed = state[0];
#pragma unroll
    for (int i = 0; i < 12; i++)
        words[i] = FILLER + ROUND_CONSTANTS[i];
    begin_rounds(state, words, 12);

    const word32 begin = first_tail + (word32)get_group_id(1) * tails_per_item;
    const word32 end = min(begin + tails_per_item, end_tail);
    for (word32 tail = begin; tail < end; tail++) {
        __global const word32 *row = table + SCHEDULE_WORDS * tail;
#if WIDTH == 1
        /* Sixteen bytes at a time; a CPU instead adds each word straight from memory to a whole vector. */
        word32 schedule[SCHEDULE_WORDS];
#pragma unroll
        for (int i = 0; i < SCHEDULE_WORDS; i += 4) {
            const uint4 four = *(__global const uint4 *)(row + i);
            schedule[i] = four.x, schedule[i + 1] = four.y, schedule[i + 2] = four.z, schedule[i + 3] = four.w;
        }
#endif
        vector32 a = ADD(state[0], row[0]), b = state[1], c = state[2], d = state[3];
        vector32 e = ADD(state[4], row[0]), f = state[5], g = state[6], h = state[7];
        EIGHT_ROUNDS(13, SCHEDULE_WORD);
        EIGHT_ROUNDS(21, SCHEDULE_WORD);
        EIGHT_ROUNDS(29, SCHEDULE_WORD);
        EIGHT_ROUNDS(37, SCHEDULE_WORD);
        EIGHT_ROUNDS(45, SCHEDULE_WORD);
        EIGHT_ROUNDS(53, SCHEDULE_WORD);
        LANE_ROUND(a, b, c, d, e, f, g, h, SCHEDULE_WORD(61));
        LANE_ROUND(h, a, b, c, d, e, f, g, SCHEDULE_WORD(62));
        LANE_ROUND(g, h, a, b, c, d, e, f, SCHEDULE_WORD(63));
        const vector32 masked = ADD(f, feed) & mask;
        if (ANY_ZERO(masked))
            report_lanes(masked, tail, 10000u, skip, count, capacity, found);
    }
}

#define VARYING 12
#define TAILS_PER_LANE 10000u
#define SEARCH_SHORT search_short_12
#include "lane_search_short.h"

#undef VARYING
#undef TAILS_PER_LANE
#undef SEARCH_SHORT
#define VARYING 13
#define TAILS_PER_LANE 1000u
#define SEARCH_SHORT search_short_13
#include "lane_search_short.h"
