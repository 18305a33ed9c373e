/* CUDA only, shape S of hashfleet/message.py: one block in which a single late word varies for a thread.
 *
 * A thread owns a lane, one value of the high digits. Everything that does not depend on the low digits is computed once
 * before its loop and written out here, because the compiler does not hoist it by itself:
 *     rounds 0 to VARYING - 1, and of round VARYING all but one addition to each of a and e;
 *     the schedule words that the varying word does not reach, their round constants added;
 *     of the other schedule words, the sum of the terms that it does not reach;
 *     SMALL_SIGMA0 of the varying word, which stands in the table beside it.
 * Per hash 51 rounds remain (50 where word 13 varies) and the rest of the schedule. `tools/count_sass.py` counts what
 * the compiler makes of the loop. On sm_90 with word 12 (13), for MULTIPLIED_OF_FOUR = 0, 2, 4: 781, 756, 730 (763, 739,
 * 713) slots of the ALU pipe, 457, 532, 610 (447, 519, 597) of the multiply-add pipe; 77 registers.
 *
 * The table has two words per tail: the varying word, and its SMALL_SIGMA0.
 */

/* Does schedule word i depend on the message word `varying` (12 or 13)? By W[i] = W[i-16] + s0(W[i-15]) + W[i-7] +
 * s1(W[i-2]) it first reaches 7 words on, then every second one, and from 13 words on all. */
static constexpr __device__ bool varies(int i, int varying)
{
    return i == varying || i >= varying + 13 || (i >= varying + 7 && (i - varying) % 2 == 1);
}

template <int VARYING>
DEVICE_FUNCTION void search_short(const Lanes own, const uint2 *__restrict__ table, const Stretch stretch,
                                  const Factors factors, const word32 capacity, word32 *found)
{
    word32 state[8];
    /* A word that does not vary, or the constant part of one that does. */
    word32 hoisted[64];
    read_lane(own, state, hoisted, VARYING);
    const word32 mask = row_of_lane(own, MASK_ROW);
    const Lane lane = begun_lane(state, hoisted, VARYING);
#pragma unroll
    for (int i = 16; i < 64; i++) {
        hoisted[i] = varies(i - 16, VARYING) ? 0u : hoisted[i - 16];
        hoisted[i] += varies(i - 15, VARYING) ? 0u : SMALL_SIGMA0(hoisted[i - 15]);
        hoisted[i] += varies(i - 7, VARYING) ? 0u : hoisted[i - 7];
        hoisted[i] += varies(i - 2, VARYING) ? 0u : SMALL_SIGMA1(hoisted[i - 2]);
    }
    /* Only now: the schedule above is made of the words without the constants. */
#pragma unroll
    for (int i = VARYING + 1; i < VARYING + 13; i++)
        hoisted[i] += varies(i, VARYING) ? 0u : ROUND_CONSTANTS[i];

#pragma unroll 1
    for (word32 tail = FIRST_TAIL(stretch); tail < END_TAIL(stretch); tail++) {
        const uint2 word_and_sigma = table[tail];
        word32 w[64]; /* of the varying words only */
        w[VARYING] = word_and_sigma.x;
#pragma unroll
        for (int i = VARYING + 7; i < 64; i++) {
            if (!varies(i, VARYING))
                continue;
            /* Terms that do not vary are in hoisted[i], which is 0 where all four vary. */
            bool constant = !(varies(i - 16, VARYING) && varies(i - 15, VARYING) && varies(i - 7, VARYING) &&
                              varies(i - 2, VARYING));
            word32 sum = constant ? hoisted[i] : varies(i - 16, VARYING) ? w[i - 16] : 0u;
            if (constant && varies(i - 16, VARYING))
                sum = ADD(w[i - 16], sum);
            if (varies(i - 15, VARYING))
                sum = ADD(i - 15 == VARYING ? word_and_sigma.y : SMALL_SIGMA0(w[i - 15]), sum);
            if (varies(i - 7, VARYING))
                sum = ADD(w[i - 7], sum);
            if (varies(i - 2, VARYING))
                sum = ADD(SMALL_SIGMA1(w[i - 2]), sum);
            w[i] = sum;
        }
        word32 a = ADD(lane.a, w[VARYING]), b = lane.b, c = lane.c, d = lane.d;
        word32 e = ADD(lane.e, w[VARYING]), f = lane.f, g = lane.g, h = lane.h;
#define SHORT_WORD(i) (varies(i, VARYING) ? ADD(w[i], ROUND_CONSTANTS[i]) : hoisted[i])
#pragma unroll
        for (int i = VARYING + 1; i < VARYING + 49; i += 8)
            EIGHT_ROUNDS(i, SHORT_WORD);
        word32 first; /* a after round 63, by the name that the last renaming gave it */
        if (VARYING == 12) {
            ADDED_ROUND(a, b, c, d, e, f, g, h, 61, SHORT_WORD(61));
            ADDED_ROUND(h, a, b, c, d, e, f, g, 62, SHORT_WORD(62));
            ADDED_ROUND(g, h, a, b, c, d, e, f, 63, SHORT_WORD(63));
            first = f;
        } else {
            ADDED_ROUND(a, b, c, d, e, f, g, h, 62, SHORT_WORD(62));
            ADDED_ROUND(h, a, b, c, d, e, f, g, 63, SHORT_WORD(63));
            first = g;
        }
        if ((ADD(first, lane.feed) & mask) == 0)
            report_survivor(stretch, VARYING == 12 ? 10000u : 1000u, tail, capacity, found);
    }
}

LANE_KERNEL(search_short_12, uint2)
{
    const Stretch stretch = LANE_STRETCH;
    const Lanes own = LANE_LANES;
    const Factors factors = LANE_FACTORS;
    if (LANE_INDEX < lanes)
        search_short<12>(own, table, stretch, factors, capacity, found);
}

LANE_KERNEL(search_short_13, uint2)
{
    const Stretch stretch = LANE_STRETCH;
    const Lanes own = LANE_LANES;
    const Factors factors = LANE_FACTORS;
    if (LANE_INDEX < lanes)
        search_short<13>(own, table, stretch, factors, capacity, found);
}
