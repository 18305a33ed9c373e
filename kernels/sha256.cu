/* CUDA C++: search counters start .. start + count - 1.
 *
 * `search_one_block` and `search_two_blocks`, the twins of those in sha256.cl, hash any counter in one piece, a thread per
 * nonce. `search_shared`, `search_short_12` and `search_short_13` are for the two shapes of hashfleet/message.py: a
 * thread owns a lane and hashes some of its tails.
 */

typedef unsigned int word32;
typedef unsigned long long word64;
#define DEVICE_FUNCTION static __device__ __forceinline__
#define CONSTANT_TABLE static __constant__ const
#define CONSTANT_POINTER const word32 *__restrict__

#include "sha256_rounds.h"
#include "nonce_search.h"

/* found[0] counts the hits; found[1 ..] are their distances from `start`, as far as `capacity` goes, in no order.
 * A count above `capacity` tells the host that some are missing. */
static __device__ __forceinline__ void report(word32 *found, const word32 capacity, const word32 distance)
{
    word32 slot = atomicAdd(found, 1u);
    if (slot < capacity)
        found[1 + slot] = distance;
}

extern "C" __global__ void search_one_block(const word32 *__restrict__ parameters, const word64 start,
                                            const word32 count, const word32 capacity, word32 *found)
{
    word32 distance = blockIdx.x * blockDim.x + threadIdx.x;
    if (distance < count && is_hit(parameters, start + distance, 1))
        report(found, capacity, distance);
}

extern "C" __global__ void search_two_blocks(const word32 *__restrict__ parameters, const word64 start,
                                             const word32 count, const word32 capacity, word32 *found)
{
    word32 distance = blockIdx.x * blockDim.x + threadIdx.x;
    if (distance < count && is_hit(parameters, start + distance, 2))
        report(found, capacity, distance);
}

#include "multiply_add.h"
#include "search_shared.h"
#include "search_short.h"
