/*
 * The vectors of one instruction set: the few operations that a search is made of.
 *
 * LANES float32 numbers are a `vec`; TILE queries are multiplied with two vectors of rows at a time, as many as there are
 * registers for. `not_greater` has a bit for each lane where a > b does not hold: for NaN it does not.
 */

#if defined(KERNEL_AVX512)
#include <immintrin.h>
#define LANES 16
#define TILE 12
typedef __m512 NAME(vec);
#define vec NAME(vec)
#define splat(x) _mm512_set1_ps(x)
#define load(p) _mm512_loadu_ps(p)
#define load_some(p, n) _mm512_maskz_loadu_ps((__mmask16)((1u << (n)) - 1), p)
#define store(p, a) _mm512_storeu_ps(p, a)
#define multiply_add(a, b, c) _mm512_fmadd_ps(a, b, c)
#define not_greater(a, b) ((unsigned)_mm512_cmp_ps_mask(a, b, _CMP_NGT_UQ))
#define minimum(a, b) _mm512_min_ps(a, b)
#define lowest(a) _mm512_reduce_min_ps(a)
#define sum(a) _mm512_reduce_add_ps(a)

#elif defined(KERNEL_AVX2)
#include <immintrin.h>
#define LANES 8
#define TILE 6
typedef __m256 NAME(vec);
#define vec NAME(vec)
#define splat(x) _mm256_set1_ps(x)
#define load(p) _mm256_loadu_ps((const float *)(p))
#define load_some(p, n) \
    _mm256_maskload_ps((const float *)(p), _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)))
#define store(p, a) _mm256_storeu_ps(p, a)
#define multiply_add(a, b, c) _mm256_fmadd_ps(a, b, c)
#define not_greater(a, b) ((unsigned)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_NGT_UQ)))
#define minimum(a, b) _mm256_min_ps(a, b)
static INLINE float NAME(lowest_lane)(vec a)
{
    __m128 half = _mm_min_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    half = _mm_min_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_min_ss(half, _mm_movehdup_ps(half)));
}
#define lowest(a) NAME(lowest_lane)(a)
static INLINE float NAME(sum_lanes)(vec a)
{
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}
#define sum(a) NAME(sum_lanes)(a)

#else /* whatever the compiler knows of vectors of four */
#define LANES 4
#if defined(__aarch64__)
#define TILE 12
#else
#define TILE 6
#endif
typedef float NAME(vec) __attribute__((vector_size(16)));
typedef int32_t NAME(mask) __attribute__((vector_size(16)));
#define vec NAME(vec)
static INLINE vec NAME(splat_)(float x) { return (vec){x, x, x, x}; }
static INLINE vec NAME(load_)(const loose *p) { vec a; memcpy(&a, p, sizeof a); return a; }
static INLINE vec NAME(load_some_)(const loose *p, int n)
{
    vec a = {0};
    memcpy(&a, p, (size_t)n * sizeof(float));
    return a;
}
static INLINE unsigned NAME(not_greater_)(vec a, vec b)
{
    NAME(mask) greater = a > b;
    return (unsigned)(~greater[0] & 1) | (unsigned)(~greater[1] & 2) | (unsigned)(~greater[2] & 4) |
           (unsigned)(~greater[3] & 8);
}
static INLINE vec NAME(minimum_)(vec a, vec b)
{
    NAME(mask) less = a < b;
    return (vec)((less & (NAME(mask))a) | (~less & (NAME(mask))b));
}
#define splat(x) NAME(splat_)(x)
#define load(p) NAME(load_)((const loose *)(p))
#define load_some(p, n) NAME(load_some_)((const loose *)(p), n)
#define store(p, a) memcpy(p, &(a), sizeof(vec))
#if defined(__aarch64__)
#include <arm_neon.h>
#define multiply_add(a, b, c) ((vec)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))
#else
#define multiply_add(a, b, c) ((a) * (b) + (c))
#endif
#define not_greater(a, b) NAME(not_greater_)(a, b)
#define minimum(a, b) NAME(minimum_)(a, b)
#define lowest(a) fminf(fminf((a)[0], (a)[1]), fminf((a)[2], (a)[3]))
#define sum(a) (((a)[0] + (a)[1]) + ((a)[2] + (a)[3]))
#endif
