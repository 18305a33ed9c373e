/* Shape S, for the varying word VARYING (12 or 13); part of lane_search.cl. The table has two words per tail: that
 * word, and its SMALL_SIGMA0.
 *
 * Computed once per lane: rounds 0 to VARYING - 1, and of round VARYING all but one addition to each of a and e; the
 * schedule words that the varying word does not reach, their round constants added; of the others, the sum of the
 * terms that it does not reach. Per hash 51 rounds remain (50 where word 13 varies) and the rest of the schedule. LLVM
 * 15 makes of them 1,262 (1,233) vector operations on AVX-512 (87 million hashes per second of a core on PoCL 3.1), and
 * 1,118 on AMD's RDNA 2.
 */

#ifndef VARIES
/* Does schedule word i depend on message word VARYING? By W[i] = W[i-16] + s0(W[i-15]) + W[i-7] + s1(W[i-2]) it first
 * reaches 7 words on, then every second one, and from 13 words on all. A constant, as every i is. */
#define VARIES(i) ((i) == VARYING || (i) >= VARYING + 13 || ((i) >= VARYING + 7 && ((i) - VARYING) % 2 == 1))
#define SHORT_WORD(i) (VARIES(i) ? ADD(w[i], ROUND_CONSTANTS[i]) : fixed[i])
#endif

__kernel void SEARCH_SHORT(LANE_ARGUMENTS)
{
    /* A word that does not vary, or the constant part of one that does. */
    vector32 fixed[64], state[8];
    BEGIN_LANES(state, fixed, VARYING);
    const vector32 feed = state[0];
#pragma unroll
    for (int i = 16; i < 64; i++) {
        fixed[i] = VARIES(i - 16) ? (vector32)(0u) : fixed[i - 16];
        fixed[i] += VARIES(i - 15) ? (vector32)(0u) : SMALL_SIGMA0(fixed[i - 15]);
        fixed[i] += VARIES(i - 7) ? (vector32)(0u) : fixed[i - 7];
        fixed[i] += VARIES(i - 2) ? (vector32)(0u) : SMALL_SIGMA1(fixed[i - 2]);
    }
    /* Only now: the schedule above is made of the words without the round constants. */
#pragma unroll
    for (int i = 0; i < VARYING + 13; i++)
        fixed[i] += VARIES(i) ? 0u : ROUND_CONSTANTS[i];
    begin_rounds(state, fixed, VARYING);

    const word32 begin = first_tail + (word32)get_group_id(1) * tails_per_item;
    const word32 end = min(begin + tails_per_item, end_tail);
    for (word32 tail = begin; tail < end; tail++) {
        const word32 varying = table[2 * tail], sigma = table[2 * tail + 1];
        vector32 w[64]; /* of the varying words only */
        w[VARYING] = varying;
#pragma unroll
        for (int i = VARYING + 7; i < 64; i++) {
            if (!VARIES(i))
                continue;
            /* Terms that do not vary are in fixed[i], which is 0 where all four vary. */
            if (!VARIES(i - 16))
                w[i] = fixed[i];
            else if (VARIES(i - 15) && VARIES(i - 7) && VARIES(i - 2))
                w[i] = w[i - 16];
            else
                w[i] = ADD(w[i - 16], fixed[i]);
            if (VARIES(i - 15))
                w[i] = ADD(i - 15 == VARYING ? (vector32)(sigma) : SMALL_SIGMA0(w[i - 15]), w[i]);
            if (VARIES(i - 7))
                w[i] = ADD(w[i - 7], w[i]);
            if (VARIES(i - 2))
                w[i] = ADD(SMALL_SIGMA1(w[i - 2]), w[i]);
        }
        vector32 a = ADD(state[0], varying), b = state[1], c = state[2], d = state[3];
        vector32 e = ADD(state[4], varying), f = state[5], g = state[6], h = state[7];
        EIGHT_ROUNDS(VARYING + 1, SHORT_WORD);
        EIGHT_ROUNDS(VARYING + 9, SHORT_WORD);
        EIGHT_ROUNDS(VARYING + 17, SHORT_WORD);
        EIGHT_ROUNDS(VARYING + 25, SHORT_WORD);
        EIGHT_ROUNDS(VARYING + 33, SHORT_WORD);
        EIGHT_ROUNDS(VARYING + 41, SHORT_WORD);
        LANE_ROUND(a, b, c, d, e, f, g, h, SHORT_WORD(VARYING + 49));
        LANE_ROUND(h, a, b, c, d, e, f, g, SHORT_WORD(VARYING + 50));
        vector32 first = g;
#if VARYING == 12
        LANE_ROUND(g, h, a, b, c, d, e, f, SHORT_WORD(63));
        first = f;
#endif
        const vector32 masked = ADD(first, feed) & mask;
        if (ANY_ZERO(masked))
            report_lanes(masked, tail, TAILS_PER_LANE, skip, count, capacity, found);
    }
}
