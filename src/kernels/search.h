/*
 * The k nearest rows of some queries, for one instruction set: included once for each.
 *
 * A row is left out if a value in float32 shows, with all its rounding, that it is no nearer than the k rows found so
 * far; the others are compared in float64. So the answer is exact, and most rows cost a few float32 operations. Rows
 * come in the order of their numbers, of equal ones the first is nearer: a row that is as near as the k-th comes too late.
 *
 * Values that are compared are distances, or similarities with their sign changed: smaller is nearer. The bounds on
 * rounding are those of Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1, with twice the unit
 * roundoff.
 */

#include "vectors.h"

#define WIDTH (2 * LANES)

/* The sum over up to 128 columns of (a - b)^2, or of ab, in the order in which NumPy adds. */
static INLINE double NAME(sum_of_block)(const loose *a, const loose *b, Py_ssize_t n, int differences)
{
    double total = 0;
    Py_ssize_t i = 0;
    if (n >= 8) {
        eight_doubles sums = {0};
        for (; i + 8 <= n; i += 8) {
            eight_floats x, y;
            memcpy(&x, a + i, sizeof x);
            memcpy(&y, b + i, sizeof y);
            eight_doubles wide = __builtin_convertvector(x, eight_doubles), other = __builtin_convertvector(y, eight_doubles);
            if (differences)
                wide -= other, other = wide;
            sums += wide * other;
        }
        total = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
    }
    for (; i < n; i++) {
        double x = a[i], y = b[i];
        if (differences)
            x -= y, y = x;
        total += x * y;
    }
    return total;
}

/* As the above for any number of columns; of (a - b)^2, a part of the sum may be given that is more than `enough`. */
static double NAME(sum_of)(const loose *a, const loose *b, Py_ssize_t n, int differences, double enough)
{
    if (n <= 128)
        return differences ? NAME(sum_of_block)(a, b, n, 1) : NAME(sum_of_block)(a, b, n, 0);
    Py_ssize_t half = n / 2 - n / 2 % 8;
    double first = NAME(sum_of)(a, b, half, differences, enough);
    if (differences && first > enough)
        return first;
    return first + NAME(sum_of)(a + half, b + half, n - half, differences, enough);
}

static double NAME(length_of)(const loose *a, Py_ssize_t n)
{
    return sqrt(NAME(sum_of)(a, a, n, 0, INFINITY));
}

/* What `Metric.between` says of a query and a row; a distance beyond `enough` may be given as another such. */
static float NAME(value_of)(int metric, const loose *query, double length, const loose *row, Py_ssize_t n, double enough)
{
    double value = NAME(sum_of)(query, row, n, metric == L2, enough);
    if (metric == COSINE && value != 0) {
        double lengths = NAME(length_of)(row, n) * length;
        value = lengths > 0 ? value / lengths : 0;
    }
    value = value > FLT_MAX ? FLT_MAX : value < -FLT_MAX ? -FLT_MAX : value;
    return (float)value + 0.0f;
}

/* Compares a query with a row in float64 and keeps the row if it is among the nearest; says whether it is. */
static int NAME(consider)(const struct search *search, struct query *query, Py_ssize_t number)
{
    const loose *row = search->rows + number * search->columns;
    double enough = query->count == search->k ? (double)query->worst * (1 + 2 * (double)FLT_EPSILON) + FLT_MIN : INFINITY;
    float value = NAME(value_of)(search->metric, query->vector, query->length, row, search->columns, enough);
    return keep(query, search->k, key_of(search->metric, value, search->first + number));
}

/* The largest distance that what is screened of a row can have if the row is one of the nearest. */
static INLINE double NAME(screened_distance)(const struct search *search, const struct query *query)
{
    double worst = query->worst;
    if (!search->projects)
        return worst;
    /* Both were rounded to float32; what directions leave is the root of a difference that float64 has rounded. */
    double columns = (double)search->columns, directions = (double)search->screened_columns;
    double share = 8 * FLT_EPSILON + sqrt(2 * sqrt(directions) * columns * DBL_EPSILON);
    double apart = sqrt(worst) * (1 + FLT_EPSILON);
    apart += share * (2 * query->projected + apart);
    return apart * apart;
}

/* The largest value in float32, by way of products, that one of the nearest rows can have. */
static INLINE float NAME(limit_of_products)(const struct search *search, const struct query *query, double longest)
{
    double columns = (double)search->screened_columns, added = columns < SUMMED ? columns : SUMMED + columns / SUMMED;
    double relative = (added + 16) * FLT_EPSILON;
    if (!(query->asked < 1e18))
        return NAN; /* products may overflow */
    if (query->count < search->k || query->worst >= FLT_MAX)
        return INFINITY;
    if (search->metric == COSINE && !query->length)
        return -INFINITY; /* all rows are alike */
    if (search->metric != L2)
        return rounded_up(query->worst + relative * query->asked * longest + columns * FLT_MIN);
    /* From the centre, a row within this distance is no further, squared, than twice the sum of both. */
    double worst = NAME(screened_distance)(search, query), asked = query->asked * query->asked;
    return rounded_up(worst - asked + 5 * relative * (worst + asked) + 4 * columns * FLT_MIN);
}

/*
 * Writes a row as products need it, shifted by the centre or scaled to length 1, with what is added to its products.
 * Where float32 could overflow or lose too much, that is NaN, so that the row is never left out. Gives its length, which
 * only similarities need.
 */
static INLINE double NAME(prepare_row)(const struct search *search, const loose *row, float *copy, float *added)
{
    Py_ssize_t columns = search->screened_columns;
    double squares = 0;
    for (Py_ssize_t start = 0; start < columns; start += SUMMED) {
        Py_ssize_t j = start, end = columns - start < SUMMED ? columns : start + SUMMED;
        vec sums = splat(0.0f);
        for (; j + LANES <= end; j += LANES) {
            vec part = load(row + j);
            if (search->metric == L2)
                part = part - load(search->centre + j);
            store(copy + j, part);
            sums = multiply_add(part, part, sums);
        }
        float total = sum(sums);
        for (; j < end; j++) {
            copy[j] = search->metric == L2 ? row[j] - search->centre[j] : row[j];
            total += copy[j] * copy[j];
        }
        squares += total;
    }
    int safe = squares < 1e36;
    *added = safe ? (search->metric == L2 ? (float)squares : 0) : NAN;
    if (search->metric == L2)
        return 0;
    if (search->metric == COSINE) {
        float scale = 0;
        if (squares > 1e-30)
            scale = (float)(1 / sqrt(squares));
        else
            for (Py_ssize_t j = 0; j < columns && safe; j++)
                safe = row[j] == 0;
        *added = safe ? 0 : NAN;
        for (Py_ssize_t j = 0; j < columns; j++)
            copy[j] *= scale;
        return 1;
    }
    return safe ? sqrt(squares + (double)columns * FLT_MIN) * (1 + (SUMMED + 8) * (double)FLT_EPSILON) : 0;
}

/* Compares a tile of rows with one or two vectors of queries; bits of what must be looked at go to `found`. */
static INLINE unsigned NAME(tile)(const float *rows, const float *added, Py_ssize_t columns, const float *panel,
                                  const float *limits, int vectors, unsigned found[TILE])
{
    vec values[TILE][2], sums[TILE][2];
    for (int i = 0; i < TILE; i++)
        for (int v = 0; v < vectors; v++)
            values[i][v] = splat(added[i]);
    for (Py_ssize_t start = 0; start < columns; start += SUMMED) {
        Py_ssize_t end = columns - start < SUMMED ? columns : start + SUMMED;
        if (start) /* sums of many numbers are added to each other, so that little is rounded away */
            for (int i = 0; i < TILE; i++)
                for (int v = 0; v < vectors; v++) {
                    if (start > SUMMED)
                        sums[i][v] = sums[i][v] + values[i][v];
                    else
                        sums[i][v] = values[i][v];
                    values[i][v] = splat(0.0f);
                }
        for (Py_ssize_t j = start; j < end; j++) {
            vec queries[2];
            for (int v = 0; v < vectors; v++)
                queries[v] = load(panel + j * vectors * LANES + v * LANES);
#pragma GCC unroll 12
            for (int i = 0; i < TILE; i++) {
                vec row = splat(rows[i * columns + j]);
                for (int v = 0; v < vectors; v++)
                    values[i][v] = multiply_add(row, queries[v], values[i][v]);
            }
        }
    }
    if (columns > SUMMED)
        for (int i = 0; i < TILE; i++)
            for (int v = 0; v < vectors; v++)
                values[i][v] = sums[i][v] + values[i][v];
    unsigned any = 0;
#pragma GCC unroll 12
    for (int i = 0; i < TILE; i++) {
        found[i] = not_greater(values[i][0], load(limits));
        if (vectors == 2)
            found[i] |= not_greater(values[i][1], load(limits + LANES)) << LANES;
        any |= found[i];
    }
    return any;
}

/* Factors of the products, as the tiles need them: column by column for a panel of queries. */
static void NAME(pack)(const struct search *search, float *packed)
{
    Py_ssize_t columns = search->screened_columns;
    for (Py_ssize_t start = 0; start < search->count; start += WIDTH) {
        Py_ssize_t left = search->count - start, width = left <= LANES ? LANES : WIDTH;
        float *panel = packed + start * columns;
        for (Py_ssize_t lane = 0; lane < width; lane++) {
            const struct query *query = lane < left ? search->queries + start + lane : NULL;
            for (Py_ssize_t j = 0; j < columns; j++) {
                float factor = 0;
                if (query && search->metric == L2)
                    factor = -2 * (query->screened[j] - search->centre[j]);
                else if (query && search->metric == INNER_PRODUCT)
                    factor = -query->screened[j];
                else if (query && query->length > 0)
                    factor = (float)(-query->screened[j] / query->length);
                panel[j * width + lane] = factor;
            }
        }
    }
}

/* Searches by products of matrices: tiles of rows and queries stay in registers, blocks of them in the caches. */
static int NAME(search_by_products)(const struct search *search)
{
    Py_ssize_t columns = search->screened_columns, panels = (search->count + WIDTH - 1) / WIDTH;
    Py_ssize_t step = BLOCK_NUMBERS / columns / TILE * TILE;
    step = step < TILE ? TILE : step;
    if (step > search->number)
        step = (search->number + TILE - 1) / TILE * TILE;
    float *packed = allocate((size_t)(panels * WIDTH * columns) * sizeof(float));
    float *limits = allocate((size_t)(panels * WIDTH) * sizeof(float));
    float *block = allocate((size_t)(step * columns) * sizeof(float));
    float *added = allocate((size_t)step * sizeof(float));
    int done = packed && limits && block && added;
    if (done) {
        NAME(pack)(search, packed);
        for (Py_ssize_t i = 0; i < panels * WIDTH; i++)
            limits[i] = -INFINITY;
        /* Without a limit, all rows of the first tile would have to be looked at. */
        Py_ssize_t at_once = search->k > FIRST ? search->k : FIRST;
        at_once = at_once < search->number ? at_once : search->number;
        for (Py_ssize_t q = 0; q < search->count; q++)
            for (Py_ssize_t i = 0; i < at_once; i++)
                NAME(consider)(search, search->queries + q, i);
        for (Py_ssize_t start = at_once; start < search->number; start += step) {
            Py_ssize_t here = search->number - start < step ? search->number - start : step;
            double longest = 0;
            for (Py_ssize_t i = 0; i < here; i++) {
                double length = NAME(prepare_row)(search, search->screened + (start + i) * columns, block + i * columns, added + i);
                longest = length > longest ? length : longest;
            }
            Py_ssize_t tiles = (here + TILE - 1) / TILE;
            for (Py_ssize_t i = here; i < tiles * TILE; i++) {
                memset(block + i * columns, 0, (size_t)columns * sizeof(float));
                added[i] = INFINITY;
            }
            if (search->metric != L2 || start == at_once)
                for (Py_ssize_t q = 0; q < search->count; q++)
                    limits[q] = NAME(limit_of_products)(search, search->queries + q, longest);
            for (Py_ssize_t first = 0; first < search->count; first += WIDTH) {
                int narrow = search->count - first <= LANES;
                for (Py_ssize_t i = 0; i < here; i += TILE) {
                    unsigned found[TILE];
                    const float *rows = block + i * columns, *panel = packed + first * columns;
                    if (!(narrow ? NAME(tile)(rows, added + i, columns, panel, limits + first, 1, found)
                                 : NAME(tile)(rows, added + i, columns, panel, limits + first, 2, found)))
                        continue;
                    for (int row = 0; row < TILE && i + row < here; row++)
                        for (unsigned bits = found[row]; bits; bits &= bits - 1) {
                            Py_ssize_t q = first + __builtin_ctz(bits);
                            if (q < search->count && NAME(consider)(search, search->queries + q, start + i + row))
                                limits[q] = NAME(limit_of_products)(search, search->queries + q, longest);
                        }
                }
            }
        }
    }
    free(packed), free(limits), free(block), free(added);
    return done;
}

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
                        limit = rounded_up(NAME(screened_distance)(search, query) * (1 + relative) + tiny);
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
                    if (both < 1e36 && (search->metric == INNER_PRODUCT || (squares > 1e-30 && both > 1e-30)) &&
                        query->length < 1e18 && (float)(-product - off) > limit)
                        continue;
                }
                changed = NAME(consider)(search, query, number);
            }
        }
    }
}

/* Compares queries with listed rows alone; 0 if there are none of these numbers. */
static int NAME(search_listed)(const struct search *search)
{
    for (Py_ssize_t q = 0; q < search->count; q++)
        for (Py_ssize_t i = 0; i < search->listed; i++) {
            int64_t number = search->list[q * search->listed + i];
            if (number >= search->number)
                return 0;
            if (number >= 0)
                NAME(consider)(search, search->queries + q, number);
        }
    return 1;
}

static void NAME(compare_all)(int metric, const loose *queries, Py_ssize_t count, const loose *rows, Py_ssize_t number,
                              Py_ssize_t stride, Py_ssize_t columns, float *values)
{
    for (Py_ssize_t q = 0; q < count; q++) {
        const loose *query = queries + q * columns, *own = rows + q * stride * columns;
        double length = metric == COSINE ? NAME(length_of)(query, columns) : 0;
        for (Py_ssize_t i = 0; i < number; i++)
            values[q * number + i] = NAME(value_of)(metric, query, length, own + i * columns, columns, INFINITY);
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
#undef sum
