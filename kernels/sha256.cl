/* OpenCL C 1.2 and later: search counters start .. start + count - 1, one work item each. */

typedef uint word32;
typedef ulong word64;
#define DEVICE_FUNCTION static inline
#define CONSTANT_TABLE __constant const
#define CONSTANT_POINTER __constant const word32 *

#include "sha256_rounds.h"
#include "nonce_search.h"

/* found[0] counts the hits; found[1 ..] are their distances from `start`, as far as `capacity` goes, in no order.
 * A count above `capacity` tells the host that some are missing. */
static inline void report(__global word32 *found, const word32 capacity, const word32 distance)
{
    word32 slot = atomic_inc(found);
    if (slot < capacity)
        found[1 + slot] = distance;
}

__kernel void search_one_block(__constant const word32 *parameters, const word64 start, const word32 count,
                               const word32 capacity, __global word32 *found)
{
    word32 distance = (word32)get_global_id(0);
    if (distance < count && is_hit(parameters, start + distance, 1))
        report(found, capacity, distance);
}

__kernel void search_two_blocks(__constant const word32 *parameters, const word64 start, const word32 count,
                                const word32 capacity, __global word32 *found)
{
    word32 distance = (word32)get_global_id(0);
    if (distance < count && is_hit(parameters, start + distance, 2))
        report(found, capacity, distance);
}
