/*
 * Panels of rows, for one instruction set: how rows are packed, and multiplied with queries.
 */

/* Copies some rows as products need them (see `struct block`), while those of the next panel come from memory. */
static void NAME(pack)(const struct search *search, Py_ssize_t start, Py_ssize_t number, struct block *block)
{
    Py_ssize_t columns = search->screened_columns;
    block->start = start;
    block->number = number;
    block->safe = 1;
    block->longest = search->metric == COSINE;
    for (Py_ssize_t first = 0; first < number; first += WIDTH) {
        float *panel = block->panels + first * columns, *added = block->added + first, squares[WIDTH];
        const loose *rows[WIDTH];
        four totals[WIDTH / 4] = {0};
        for (int lane = 0; lane < WIDTH; lane++) {
            Py_ssize_t row = start + (first + lane < number ? first + lane : number - 1);
            rows[lane] = search->screened + (search->order ? search->order[row] : row) * columns;
        }
        const char *next = (const char *)rows[0] + WIDTH * columns * (Py_ssize_t)sizeof(float);
        for (Py_ssize_t part = 0; part < columns; part += SUMMED)
            for (int lane = 0; lane < WIDTH; lane += 4) {
                Py_ssize_t j = part, end = columns - part < SUMMED ? columns : part + SUMMED;
                four sums = {0};
                for (; j + 4 <= end; j += 4, next += LINE) {
                    four numbers[4];
                    fetch(next);
                    for (int i = 0; i < 4; i++) {
                        memcpy(&numbers[i], rows[lane + i] + j, sizeof(four));
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
                    four numbers;
                    for (int i = 0; i < 4; i++)
                        numbers[i] = rows[lane + i][j] - centre;
                    memcpy(panel + j * WIDTH + lane, &numbers, sizeof(four));
                    sums += numbers * numbers;
                }
                totals[lane / 4] += sums;
            }
        memcpy(squares, totals, sizeof squares);
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
        if (search->order) {
            Py_ssize_t last = number - first < WIDTH ? number - 1 : first + WIDTH - 1;
            block->low[first / WIDTH] = search->screened[search->order[start + first] * columns + block->axis];
            block->high[first / WIDTH] = search->screened[search->order[start + last] * columns + block->axis];
        }
    }
    block->longest *= 1 + (SUMMED + (double)columns / SUMMED + 8) * (double)FLT_EPSILON;
}

/*
 * Multiplies a panel of rows with `height` queries or, if it goes `along` the rows, as many panels with one query. The
 * factors of queries lie `stride` numbers apart.
 */
static INLINE void NAME(multiply)(const float *panel, const float *added, Py_ssize_t columns, const float *factors,
                                  Py_ssize_t stride, int height, int along, vec values[TILE][2])
{
    Py_ssize_t next_panel = along ? WIDTH * columns : 0, next_query = along ? 0 : stride;
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
