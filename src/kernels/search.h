/*
 * The k nearest rows of some queries, for one instruction set: included once for each.
 *
 * A row is left out if a value in float32 shows, with all its rounding, that it is not among the nearest; the others are
 * compared in float64. So the answer is exact, and most rows cost a few float32 operations.
 */

#include "vectors.h"

#define WIDTH (2 * LANES)

#include "exact.h"
#include "panels.h"
#include "products.h"

/* Searches row by row, by differences for distances: precise wherever rows lie, and faster for a few queries. */
static void NAME(search_row_by_row)(const struct search *search)
{
    Py_ssize_t columns = search->screened_columns, step = 1 + BLOCK_NUMBERS / 16 / columns;
    /* Each lane adds up its share of the columns. */
    double relative = ((double)columns / LANES + 40) * FLT_EPSILON, tiny = (columns + 1) * (double)FLT_MIN;
    for (Py_ssize_t start = 0; start < search->number; start += step) {
        Py_ssize_t end = search->number - start < step ? search->number : start + step;
        for (Py_ssize_t q = 0; q < search->count; q++) {
            struct query *query = search->queries + q;
            const loose *vector = query->screened;
            float limit = INFINITY;
            int changed = 1;
            if (search->metric == COSINE && !query->length && query->count == search->k)
                continue; /* all rows are alike */
            for (Py_ssize_t number = start; number < end; number++) {
                const loose *row = search->screened + number * columns;
                vec first = splat(0.0f), second = splat(0.0f);
                Py_ssize_t j = 0;
                if (changed && query->count == search->k && query->worst < FLT_MAX) {
                    limit = query->worst;
                    if (search->metric == L2)
                        limit = rounded_up(screened_distance(search, query, query->worst) * (1 + relative) + tiny);
                }
                changed = 0;
                if (search->metric == L2) {
                    for (; j + 2 * LANES <= columns; j += 2 * LANES) {
                        vec a = load(row + j) - load(vector + j), b = load(row + j + LANES) - load(vector + j + LANES);
                        first = multiply_add(a, a, first);
                        second = multiply_add(b, b, second);
                    }
                    if (j + LANES <= columns) {
                        vec a = load(row + j) - load(vector + j);
                        first = multiply_add(a, a, first);
                        j += LANES;
                    }
                    if (j < columns) {
                        vec a = load_some(row + j, (int)(columns - j)) - load_some(vector + j, (int)(columns - j));
                        second = multiply_add(a, a, second);
                    }
                    float value = sum(first + second);
                    if (value > limit)
                        continue;
                } else {
                    for (; j + LANES <= columns; j += LANES) {
                        vec a = load(row + j);
                        first = multiply_add(a, load(vector + j), first);
                        second = multiply_add(a, a, second);
                    }
                    if (j < columns) {
                        vec a = load_some(row + j, (int)(columns - j));
                        first = multiply_add(a, load_some(vector + j, (int)(columns - j)), first);
                        second = multiply_add(a, a, second);
                    }
                    double product = sum(first), squares = sum(second) + columns * (double)FLT_MIN;
                    double both = sqrt(squares) * query->length;
                    double off = relative * both + tiny;
                    if (search->metric == COSINE) {
                        product /= both;
                        off = relative;
                    }
                    /* Where float32 overflows or loses too much, the row is looked at. */
                    int safe = search->metric == INNER_PRODUCT || (squares > 1e-30 * (double)columns && both > 1e-30);
                    if (safe && both < 1e36 && query->length < 1e18 && (float)(-product - off) > limit)
                        continue;
                }
                changed = NAME(consider)(search, query, number);
            }
        }
    }
}

#undef LANES
#undef TILE
#undef WIDTH
#undef vec
#undef splat
#undef load
#undef load_some
#undef store
#undef multiply_add
#undef not_greater
#undef minimum
#undef lowest
#undef sum
