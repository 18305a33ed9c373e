/* CUDA only, shape T of hashfleet/message.py: the tails' schedules are a table, a thread owns a lane.
 *
 * Per hash rounds 12 to 63 remain: 51 whole ones and two additions. `tools/count_sass.py` counts what the compiler makes
 * of the loop; on sm_90 it is @T_ALU@.
 *
 * The parameters, in 32-bit words (filled by gpu_worker/cuda_parameters.py):
 *      0 .. 7    chaining value before the lane's block
 *      8 .. 23   the lane's block, every high digit '0'
 * The table has a row of 52 words per tail: word + constant of rounds 12 to 63.
 */
#define SCHEDULE_WORDS 52
#define SCHEDULE_WORD(i) schedule[(i) - 12]

extern "C" __global__ void __launch_bounds__(256)
search_shared(const word32 *__restrict__ parameters, const uint4 *__restrict__ table, const Stretch stretch,
              const Factors factors, const word32 mask, const word32 capacity, word32 *found)
{
    const word32 index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= stretch.lanes)
        return;

    word32 state[8], words[16];
#pragma unroll
    for (int i = 0; i < 8; i++)
        state[i] = parameters[i];
#pragma unroll
    for (int i = 0; i < 16; i++)
        words[i] = parameters[8 + i];
    write_digits(words, 16, stretch.first_lane + index);
    sha256_compress(state, words);
#pragma unroll
    for (int i = 0; i < 12; i++)
        words[i] = 0x30303030u; /* the filler */
    const Lane lane = begun_lane(state, words, 12);

    const word32 begin = stretch.first_tail + blockIdx.y * stretch.tails_per_block;
    const word32 end = begin + stretch.tails_per_block < stretch.end_tail ? begin + stretch.tails_per_block
                                                                          : stretch.end_tail;
    const uint4 *row = table + begin * (SCHEDULE_WORDS / 4);
    /* Every thread of the grid goes through the same tails, so a row is read once per warp: no divergence. What does
     * not belong to the stretch at its two ends is hashed for nothing and not reported. */
#pragma unroll 1
    for (word32 tail = begin; tail < end; tail++, row += SCHEDULE_WORDS / 4) {
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
            report_survivor(stretch, index, tail, capacity, found);
    }
}
