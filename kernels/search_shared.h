/* CUDA only, shape T of hashfleet/message.py: the tails' schedules are a table, a thread owns a lane.
 *
 * Per hash rounds 12 to 63 remain: 51 whole ones and two additions. `tools/count_sass.py` counts what the compiler makes
 * of the loop. On sm_90, for MULTIPLIED_OF_FOUR = 0, 2, 4: 514, 489, 463 slots of the ALU pipe (of which 510, 485, 459 are
 * the rounds' rotations and logic), 309, 384, 462 of the multiply-add pipe, 840, 865, 891 instructions; 46 registers.
 *
 * The table has a row of 52 words per tail: word 12, and word + constant of rounds 13 to 63. It is read at addresses that are the same
 * for a whole warp, as 13 loads of 16 bytes: neither pipe is asked for them.
 */
#define SCHEDULE_WORDS 52
#define SCHEDULE_WORD(i) schedule[(i) - 12]

LANE_KERNEL(search_shared, uint4)
{
    const Stretch stretch = LANE_STRETCH;
    const Lanes own = LANE_LANES;
    const Factors factors = LANE_FACTORS;
    if (LANE_INDEX >= lanes)
        return;

    word32 state[8], words[16];
    read_lane(own, state, words, 16);
    const word32 mask = row_of_lane(own, MASK_ROW);
    sha256_compress(state, words);
#pragma unroll
    for (int i = 0; i < 12; i++)
        words[i] = 0x30303030u; /* the filler */
    const Lane lane = begun_lane(state, words, 12);

    const uint4 *row = table + FIRST_TAIL(stretch) * (SCHEDULE_WORDS / 4);
#pragma unroll 1
    for (word32 tail = FIRST_TAIL(stretch); tail < END_TAIL(stretch); tail++, row += SCHEDULE_WORDS / 4) {
        word32 schedule[SCHEDULE_WORDS];
#pragma unroll
        for (int i = 0; i < SCHEDULE_WORDS / 4; i++) {
            const uint4 four = row[i];
            schedule[4 * i] = four.x;
            schedule[4 * i + 1] = four.y;
            schedule[4 * i + 2] = four.z;
            schedule[4 * i + 3] = four.w;
        }
        word32 a = ADD(lane.a, schedule[0]), b = lane.b, c = lane.c, d = lane.d;
        word32 e = ADD(lane.e, schedule[0]), f = lane.f, g = lane.g, h = lane.h;
#pragma unroll
        for (int i = 13; i < 61; i += 8)
            EIGHT_ROUNDS(i, SCHEDULE_WORD);
        ADDED_ROUND(a, b, c, d, e, f, g, h, 61, SCHEDULE_WORD(61));
        ADDED_ROUND(h, a, b, c, d, e, f, g, 62, SCHEDULE_WORD(62));
        ADDED_ROUND(g, h, a, b, c, d, e, f, 63, SCHEDULE_WORD(63));
        if ((ADD(f, lane.feed) & mask) == 0)
            report_survivor(stretch, 10000u, tail, capacity, found);
    }
}
