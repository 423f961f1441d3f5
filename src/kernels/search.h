/*
 * The k nearest rows of some queries, for one instruction set: included once for each.
 *
 * A row is left out if a value in float32 shows, with all its rounding, that it is not among the nearest; the others are
 * compared in float64. So the answer is exact, and most rows cost a few float32 operations.
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
static INLINE float NAME(value_of)(int metric, const loose *query, double length, const loose *row, Py_ssize_t n, double enough)
{
    double value = NAME(sum_of)(query, row, n, metric == L2, enough);
    if (metric == COSINE && value != 0) {
        double lengths = NAME(length_of)(row, n) * length;
        value = lengths > 0 ? value / lengths : 0;
    }
    value = value > FLT_MAX ? FLT_MAX : value < -FLT_MAX ? -FLT_MAX : value;
    return (float)value + 0.0f;
}

/* Compares a query with a row in float64 and keeps the row if it is among the nearest; says what `keep` says. */
static int NAME(consider)(const struct search *search, struct query *query, Py_ssize_t number)
{
    const loose *row = search->rows + number * search->columns;
    double enough = query->count == search->k ? (double)query->worst * (1 + 2 * (double)FLT_EPSILON) + FLT_MIN : INFINITY;
    float value = NAME(value_of)(search->metric, query->vector, query->length, row, search->columns, enough);
    return keep(query, search->k, key_of(search->metric == L2 ? value : -value, search->first + number));
}

/* Copies some rows as products need them: see `struct block`. */
static void NAME(pack)(const struct search *search, Py_ssize_t start, Py_ssize_t number, struct block *block)
{
    Py_ssize_t columns = search->screened_columns;
    block->start = start;
    block->number = number;
    block->safe = 1;
    block->longest = search->metric == COSINE;
    for (Py_ssize_t first = 0; first < number; first += WIDTH) {
        float *panel = block->panels + first * columns, *added = block->added + first, squares[WIDTH];
        for (int lane = 0; lane < WIDTH; lane += 4) {
            const loose *rows[4];
            four total = {0};
            for (int i = 0; i < 4; i++) {
                Py_ssize_t row = first + lane + i;
                rows[i] = search->screened + (start + (row < number ? row : number - 1)) * columns;
            }
            for (Py_ssize_t part = 0; part < columns; part += SUMMED) {
                Py_ssize_t j = part, end = columns - part < SUMMED ? columns : part + SUMMED;
                four sums = {0};
                for (; j + 4 <= end; j += 4) {
                    four numbers[4];
                    for (int i = 0; i < 4; i++) {
                        memcpy(&numbers[i], rows[i] + j, sizeof(four));
                        if (search->metric == L2) {
                            four centre;
                            memcpy(&centre, search->centre + j, sizeof(four));
                            numbers[i] -= centre;
                        }
                    }
                    transpose(numbers);
                    for (int i = 0; i < 4; i++) {
                        memcpy(panel + (j + i) * WIDTH + lane, &numbers[i], sizeof(four));
                        sums += numbers[i] * numbers[i];
                    }
                }
                for (; j < end; j++) {
                    float centre = search->metric == L2 ? search->centre[j] : 0;
                    four numbers = {rows[0][j] - centre, rows[1][j] - centre, rows[2][j] - centre, rows[3][j] - centre};
                    memcpy(panel + j * WIDTH + lane, &numbers, sizeof(four));
                    sums += numbers * numbers;
                }
                total += sums;
            }
            memcpy(squares + lane, &total, sizeof(four));
        }
        int safe = 1;
        for (int lane = 0; lane < WIDTH; lane++)
            safe &= squares[lane] < 1e36f && (search->metric != COSINE || squares[lane] > 1e-30f);
        for (int lane = 0; lane < WIDTH; lane++)
            added[lane] = search->metric == L2 ? squares[lane] : 0;
        if (search->metric == INNER_PRODUCT)
            for (int lane = 0; lane < WIDTH; lane++) {
                double length = sqrt(squares[lane] + (double)columns * FLT_MIN);
                if (squares[lane] < 1e36f && length > block->longest)
                    block->longest = length;
            }
        if (!safe)
            for (int lane = 0; lane < WIDTH; lane++) {
                int zero = search->metric == COSINE;
                for (Py_ssize_t j = 0; zero && j < columns; j++)
                    zero = panel[j * WIDTH + lane] == 0;
                if (zero || (squares[lane] < 1e36f && (search->metric != COSINE || squares[lane] > 1e-30f)))
                    continue;
                added[lane] = -INFINITY;
                block->safe = 0;
                for (Py_ssize_t j = 0; j < columns; j++)
                    panel[j * WIDTH + lane] = 0;
            }
        if (search->metric == COSINE) {
            for (int lane = 0; lane < WIDTH; lane++)
                squares[lane] = squares[lane] > 1e-30f ? (float)(1 / sqrt(squares[lane])) : 0;
            for (Py_ssize_t j = 0; j < columns; j++)
                for (int lane = 0; lane < WIDTH; lane++)
                    panel[j * WIDTH + lane] *= squares[lane];
        }
        for (Py_ssize_t row = number - first; row < WIDTH; row++)
            added[row] = INFINITY;
    }
    block->longest *= 1 + (SUMMED + (double)columns / SUMMED + 8) * (double)FLT_EPSILON;
}

/*
 * Multiplies a panel of rows with `height` queries or, if it goes `along` the rows, as many panels with one query.
 */
static INLINE void NAME(multiply)(const float *panel, const float *added, Py_ssize_t columns, const float *factors,
                                  int height, int along, vec values[TILE][2])
{
    Py_ssize_t next_panel = along ? WIDTH * columns : 0, next_query = along ? 0 : columns;
    vec sums[TILE][2];
    for (int i = 0; i < height; i++)
        for (int v = 0; v < 2; v++)
            values[i][v] = load(added + (along ? i * WIDTH : 0) + v * LANES);
    for (Py_ssize_t start = 0; start < columns; start += SUMMED) {
        Py_ssize_t end = columns - start < SUMMED ? columns : start + SUMMED;
        if (start) /* sums of many numbers are added to each other, so that little is rounded away */
            for (int i = 0; i < height; i++)
                for (int v = 0; v < 2; v++) {
                    if (start > SUMMED)
                        sums[i][v] = sums[i][v] + values[i][v];
                    else
                        sums[i][v] = values[i][v];
                    values[i][v] = splat(0.0f);
                }
        for (Py_ssize_t j = start; j < end; j++)
#pragma GCC unroll 12
            for (int i = 0; i < height; i++) {
                const float *rows = panel + i * next_panel + j * WIDTH;
                vec factor = splat(factors[i * next_query + j]);
                values[i][0] = multiply_add(factor, load(rows), values[i][0]);
                values[i][1] = multiply_add(factor, load(rows + LANES), values[i][1]);
            }
    }
    if (columns > SUMMED)
        for (int i = 0; i < height; i++)
            for (int v = 0; v < 2; v++)
                values[i][v] = sums[i][v] + values[i][v];
}

/* Compares with a query what it has noted. */
static void NAME(compare_noted)(const struct search *search, struct query *query)
{
    for (; query->waiting; query->waiting--)
        NAME(consider)(search, query, row_of_key(query->noted[query->waiting - 1]));
}

/* Notes, or compares, the rows of a panel or of two that a query may be near to; `bits` are theirs. */
static NEVER_INLINE void NAME(note)(const struct search *search, Py_ssize_t q, Py_ssize_t start, const float *values,
                                    uint64_t bits)
{
    struct query *query = search->queries + q;
    if (query->settled)
        return;
    for (; bits; bits &= bits - 1) {
        int lane = __builtin_ctzll(bits);
        if (search->k > 1 && !search->projects && values[lane] != -INFINITY)
            query->noted[query->waiting++] = key_of(values[lane], start + lane);
        else if (NAME(consider)(search, query, start + lane))
            search->limits[q] = limit_of_products(search, query);
    }
    if (query->waiting + 2 * WIDTH <= search->room)
        return;
    Py_ssize_t spare = search->room - search->k;
    shrink(search, q, spare / 4);
    if (query->waiting > search->k + spare / 2) { /* many are equally near */
        NAME(compare_noted)(search, query);
        search->limits[q] = limit_of_products(search, query);
    }
}

/* Screens a panel for `height` queries or, if it goes `along` the rows, one panel or two for one query. */
static INLINE void NAME(screen_tile)(const struct search *search, const struct block *block, Py_ssize_t panel,
                                     Py_ssize_t q, int height, int along)
{
    Py_ssize_t columns = search->screened_columns, start = block->start + panel * WIDTH;
    vec values[TILE][2];
    unsigned any = 0;
    NAME(multiply)(block->panels + panel * WIDTH * columns, block->added + panel * WIDTH, columns,
                   search->factors + q * columns, height, along, values);
#pragma GCC unroll 12
    for (int i = 0; i < height; i++)
        any |= not_greater(minimum(values[i][0], values[i][1]), splat(search->limits[along ? q : q + i]));
    if (!any)
        return;
    float some[2 * WIDTH];
    uint64_t bits = 0;
#pragma GCC unroll 12
    for (int i = 0; i < height; i++) {
        vec limit = splat(search->limits[along ? q : q + i]);
        uint64_t found = not_greater(values[i][0], limit) | (uint64_t)not_greater(values[i][1], limit) << LANES;
        if (!along && !found)
            continue;
        float *place = along ? some + i * WIDTH : some;
        store(place, values[i][0]);
        store(place + LANES, values[i][1]);
        if (along)
            bits |= found << i * WIDTH;
        else
            NAME(note)(search, q + i, start, some, found);
    }
    if (along)
        NAME(note)(search, q, start, some, bits);
}

/* Screens the rows of some panels for `height` queries. */
static INLINE void NAME(screen)(const struct search *search, const struct block *block, Py_ssize_t from, Py_ssize_t to,
                                Py_ssize_t q, int height)
{
    if (height > 1)
        for (Py_ssize_t panel = from; panel < to; panel++)
            NAME(screen_tile)(search, block, panel, q, height, 0);
    else {
        for (; from + 2 <= to; from += 2)
            NAME(screen_tile)(search, block, from, q, 2, 1);
        if (from < to)
            NAME(screen_tile)(search, block, from, q, 1, 1);
    }
}

/* Writes the smallest value in each lane of each group of panels, for each of `height` queries. */
static INLINE void NAME(find_minima)(const struct search *search, const struct block *block, const struct groups *groups,
                                     Py_ssize_t q, int height)
{
    Py_ssize_t columns = search->screened_columns, panels = groups->panels, size = groups->size;
    Py_ssize_t apart = groups->count * LANES;
    const float *rows = block->panels, *added = block->added, *factors = search->factors + q * columns;
    float *minima = groups->minima;
    for (Py_ssize_t panel = 0, next = 0; panel < panels; minima += LANES) {
        next = next + size < panels ? next + size : panels;
        for (int begun = 0; panel < next; panel++, begun = 1) {
            vec values[TILE][2];
            NAME(multiply)(rows + panel * WIDTH * columns, added + panel * WIDTH, columns, factors, height, 0, values);
#pragma GCC unroll 12
            for (int i = 0; i < height; i++) {
                vec least = minimum(values[i][0], values[i][1]);
                if (begun)
                    least = minimum(least, load(minima + i * apart));
                store(minima + i * apart, least);
            }
        }
    }
}

/* Bounds what is near to a query from the minima of its groups. */
static INLINE void NAME(bound_by_minima)(const struct search *search, const struct groups *groups, Py_ssize_t q,
                                         const float *minima)
{
    Py_ssize_t k = search->k, vectors = (4 * k + LANES - 1) / LANES;
    vectors = k == 1 ? 1 : vectors < groups->count ? vectors : groups->count;
    for (Py_ssize_t v = 0; v < vectors; v++) {
        vec least = load(minima + v * LANES);
        for (Py_ssize_t group = v + vectors; group < groups->count; group += vectors)
            least = minimum(least, load(minima + group * LANES));
        if (k == 1)
            take_bound(search, q, lowest(least));
        else
            store(groups->cells + v * LANES, least);
    }
    if (k > 1)
        take_bound(search, q, kth_smallest(groups->cells, vectors * LANES, k, groups->keys));
}

/* Screens, for each of some queries, the groups that hold what may be near to it. */
static void NAME(screen_groups)(const struct search *search, const struct block *block, const struct groups *groups,
                                Py_ssize_t q, Py_ssize_t height)
{
    Py_ssize_t near = 0;
    for (Py_ssize_t i = 0; i < height; i++) {
        vec limit = splat(search->limits[q + i]);
        for (Py_ssize_t group = 0; group < groups->count; group++) {
            groups->near[near] = (struct pair){q + i, group * groups->size};
            near += not_greater(load(groups->minima + (i * groups->count + group) * LANES), limit) != 0;
        }
    }
    for (Py_ssize_t i = 0; i < near; i++) {
        struct pair pair = groups->near[i];
        Py_ssize_t to = pair.panel + groups->size;
        NAME(screen)(search, block, pair.panel, to < groups->panels ? to : groups->panels, pair.query, 1);
    }
}

/* How many of the queries that are left are multiplied at once. */
static INLINE int NAME(height_of)(Py_ssize_t left)
{
    return left >= TILE ? TILE : left >= TILE / 3 ? TILE / 3 : 1;
}

/* Screens the first rows of all, about which nothing is known: gives the panels that it has screened. */
static Py_ssize_t NAME(screen_first)(const struct search *search, const struct block *block, struct groups *groups)
{
    Py_ssize_t panels = (block->number + WIDTH - 1) / WIDTH;
    groups->panels = panels < groups->panels ? panels : groups->panels;
    groups->count = (groups->panels + groups->size - 1) / groups->size;
    if (search->projects || !block->safe || groups->count * LANES < 2 * search->k)
        return 0;
    for (Py_ssize_t q = 0, height; q < search->count; q += height) {
        height = NAME(height_of)(search->count - q);
        if (height == TILE)
            NAME(find_minima)(search, block, groups, q, TILE);
        else if (height == 1)
            NAME(find_minima)(search, block, groups, q, 1);
        else
            NAME(find_minima)(search, block, groups, q, TILE / 3);
        for (Py_ssize_t i = 0; i < height; i++)
            if (!search->queries[q + i].settled)
                NAME(bound_by_minima)(search, groups, q + i, groups->minima + i * groups->count * LANES);
        NAME(screen_groups)(search, block, groups, q, height);
    }
    return groups->panels;
}

/* Screens a block from some panel on. */
static void NAME(screen_block)(const struct search *search, const struct block *block, Py_ssize_t from)
{
    Py_ssize_t to = (block->number + WIDTH - 1) / WIDTH;
    for (Py_ssize_t q = 0, height; from < to && q < search->count; q += height) {
        height = NAME(height_of)(search->count - q);
        if (height == TILE)
            NAME(screen)(search, block, from, to, q, TILE);
        else if (height == 1)
            NAME(screen)(search, block, from, to, q, 1);
        else
            NAME(screen)(search, block, from, to, q, TILE / 3);
    }
}

/* Writes what products multiply with each query, and settles the queries that are none for them. */
static void NAME(begin_queries)(const struct search *search)
{
    Py_ssize_t columns = search->screened_columns, first = search->number < search->k ? search->number : search->k;
    for (Py_ssize_t q = 0; q < search->count; q++) {
        struct query *query = search->queries + q;
        float *factors = search->factors + q * columns;
        int alike = search->metric != L2 && !query->length; /* all rows are */
        query->settled = alike || !(query->asked < 1e18);   /* or products may overflow */
        for (Py_ssize_t j = 0; j < columns; j++)
            if (query->settled)
                factors[j] = 0;
            else if (search->metric == L2)
                factors[j] = -2 * (query->screened[j] - search->centre[j]);
            else
                factors[j] = search->metric == COSINE ? (float)(-query->screened[j] / query->length) : -query->screened[j];
        if (query->settled || search->projects)
            for (Py_ssize_t row = 0; row < (query->settled && !alike ? search->number : first); row++)
                NAME(consider)(search, query, row);
        search->limits[q] = limit_of_products(search, query);
    }
}

/* Rows that are screened first by groups, of panels of the first block; `minima`, `cells` and `keys` are for their use. */
static struct groups NAME(groups_of)(const struct search *search, Py_ssize_t panels)
{
    struct groups groups = {.panels = (FIRST_ROWS + 16 * search->k) / WIDTH};
    groups.panels = groups.panels < panels ? groups.panels : panels;
    groups.size = groups.panels * LANES / (4 * search->k);
    groups.size = groups.size < 1 ? 1 : groups.size > LARGEST_GROUP ? LARGEST_GROUP : groups.size;
    groups.count = (groups.panels + groups.size - 1) / groups.size;
    return groups;
}

/*
 * Searches by products of matrices: tiles of rows and queries stay in registers, blocks of rows in the caches. What is
 * `packed` are all rows.
 */
static int NAME(search_by_products)(struct search *search, const struct block *packed)
{
    Py_ssize_t columns = search->screened_columns, number = search->number;
    Py_ssize_t step = BLOCK_NUMBERS / columns / WIDTH * WIDTH, all = (number + WIDTH - 1) / WIDTH * WIDTH;
    step = step < WIDTH ? WIDTH : step < all ? step : all;
    struct groups groups = NAME(groups_of)(search, step / WIDTH);
    struct block block = {0};
    size_t cells = (size_t)(groups.count * LANES), copied = packed ? 0 : (size_t)step;
    const size_t bytes[] = {
        (size_t)(search->count * columns) * sizeof(float),
        (size_t)search->count * sizeof(float),
        TILE * cells * sizeof(float),
        cells * sizeof(float),
        cells * sizeof(int64_t),
        (TILE * (size_t)groups.count + 1) * sizeof(struct pair),
        copied * (size_t)columns * sizeof(float),
        copied * sizeof(float),
    };
    void *places[8], *memory = allocate_all(bytes, 8, places);
    search->factors = places[0];
    search->limits = places[1];
    groups.minima = places[2];
    groups.cells = places[3];
    groups.keys = places[4];
    groups.near = places[5];
    float *panels = places[6], *added = places[7];
    if (!memory)
        return 0;
    double added_up = columns < SUMMED ? (double)columns : SUMMED + (double)columns / SUMMED;
    search->relative = (added_up + 16) * FLT_EPSILON;
    search->tiny = (double)columns * FLT_MIN;
    NAME(begin_queries)(search);
    Py_ssize_t start = !search->projects ? 0 : search->k < number ? search->k : number; /* these have been compared */
    for (Py_ssize_t from = start; from < number; from += step) {
        Py_ssize_t here = number - from < step ? number - from : step, screened = 0;
        if (packed)
            block = (struct block){.panels = packed->panels + from * columns, .added = packed->added + from, .start = from,
                                   .number = here, .longest = packed->longest, .safe = packed->safe};
        else {
            block.panels = panels;
            block.added = added;
            NAME(pack)(search, from, here, &block);
        }
        if (block.longest > search->longest) {
            search->longest = block.longest;
            for (Py_ssize_t q = 0; q < search->count; q++)
                search->limits[q] = limit_of_products(search, search->queries + q);
        }
        if (from == 0)
            screened = NAME(screen_first)(search, &block, &groups);
        NAME(screen_block)(search, &block, screened);
    }
    for (Py_ssize_t q = 0; q < search->count; q++) {
        if (search->queries[q].waiting > search->k)
            shrink(search, q, 0);
        NAME(compare_noted)(search, search->queries + q);
    }
    free(memory);
    return 1;
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
#undef minimum
#undef lowest
#undef sum
