/* One counter value: write its digits into the message template, hash, test for leading zeros.
 *
 * Needs what sha256_rounds.h needs, and
 *     CONSTANT_POINTER   type of a pointer to read-only 32-bit words that are the same for every thread
 *
 * The parameters, in 32-bit words (filled by gpu_worker/kernel_parameters.py):
 *
 *      0 .. 31   the message's last one or two blocks, every counter digit '0', padding included
 *     32 .. 39   midstate: chaining value after the blocks before
 *     40 .. 47   masks: a hash is a hit if no masked bit of any digest word is set
 *     48         word of the message that holds the counter's last digit
 *     49         bits from that digit's byte down to the end of its word: 0, 8, 16 or 24
 */
#define TEMPLATE 0
#define MIDSTATE 32
#define MASKS 40
#define LAST_DIGIT_WORD 48
#define LAST_DIGIT_SHIFT 49

/* 0 .. 9999 as four bytes 0 .. 9, the thousands in the highest: what is added to the ASCII text "0000". */
DEVICE_FUNCTION word32 four_digits(word32 value)
{
    word32 hundreds = value / 100u, rest = value - 100u * hundreds;
    word32 a = hundreds / 10u, c = rest / 10u;
    return a << 24 | (hundreds - 10u * a) << 16 | c << 8 | (rest - 10u * c);
}

/* The upper word of (high, low) moved up by 0 to 24 bits. */
DEVICE_FUNCTION word32 shifted(word32 high, word32 low, word32 bits)
{
    return (word32)((((word64)high << 32 | low) << bits) >> 32);
}

/* state = compress(state, the template's block number `block` with the counter's digits written into it).
 *
 * `digits` is what is added to the six words that end with the one that holds the last digit. Digits above the
 * counter's own are zeros and change nothing where they land; before the template's first word they match no word.
 */
DEVICE_FUNCTION void hash_block(
    CONSTANT_POINTER parameters, const word32 digits[6], const int block, word32 state[8])
{
    word32 w[16];
#pragma unroll
    for (int i = 0; i < 16; i++) {
        /* How many words before the last digit's this one is: the same for all threads. */
        int before = (int)parameters[LAST_DIGIT_WORD] - (16 * block + i);
        w[i] = parameters[TEMPLATE + 16 * block + i];
        w[i] += before == 0 ? digits[5] : before == 1 ? digits[4] : before == 2 ? digits[3]
              : before == 3 ? digits[2] : before == 4 ? digits[1] : before == 5 ? digits[0] : 0u;
    }
    sha256_compress(state, w);
}

/* Does the hash of the message with this counter have the zeros asked for? `blocks` is a constant, 1 or 2.
 *
 * 20 digits stand right-aligned in five words and are moved to where the template says that they end, so a single
 * kernel serves every prefix length and digit count.
 */
DEVICE_FUNCTION int is_hit(CONSTANT_POINTER parameters, word64 counter, const int blocks)
{
    /* Two 64-bit divisions, the rest in 32 bits: counter < 10^18 = top (2 digits), middle (8), low (8). */
    word64 high = counter / 100000000u;
    word32 low = (word32)(counter - 100000000u * high);
    word32 top = (word32)(high / 100000000u);
    word32 middle = (word32)(high - (word64)100000000u * top);
    word32 d0 = four_digits(top);
    word32 d1 = four_digits(middle / 10000u), d2 = four_digits(middle % 10000u);
    word32 d3 = four_digits(low / 10000u), d4 = four_digits(low % 10000u);

    word32 bits = parameters[LAST_DIGIT_SHIFT];
    word32 digits[6] = {
        shifted(0, d0, bits), shifted(d0, d1, bits), shifted(d1, d2, bits),
        shifted(d2, d3, bits), shifted(d3, d4, bits), shifted(d4, 0, bits),
    };

    word32 state[8];
#pragma unroll
    for (int i = 0; i < 8; i++)
        state[i] = parameters[MIDSTATE + i];

    hash_block(parameters, digits, 0, state);
    if (blocks == 2)
        hash_block(parameters, digits, 1, state);

    word32 set = 0;
#pragma unroll
    for (int i = 0; i < 8; i++)
        set |= state[i] & parameters[MASKS + i];
    return set == 0;
}
