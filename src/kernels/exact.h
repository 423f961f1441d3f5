/*
 * Comparing in float64, for one instruction set: the arithmetic of `Metric.between`, in the order in which NumPy adds.
 */

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

/* As the above for many columns; of (a - b)^2, a part of the sum may be given that is more than `enough`. */
static double NAME(sum_of_many)(const loose *a, const loose *b, Py_ssize_t n, int differences, double enough)
{
    if (n <= 128)
        return differences ? NAME(sum_of_block)(a, b, n, 1) : NAME(sum_of_block)(a, b, n, 0);
    Py_ssize_t half = n / 2 - n / 2 % 8;
    double first = NAME(sum_of_many)(a, b, half, differences, enough);
    if (differences && first > enough)
        return first;
    return first + NAME(sum_of_many)(a + half, b + half, n - half, differences, enough);
}

/* As the above for any number of columns. */
static INLINE double NAME(sum_of)(const loose *a, const loose *b, Py_ssize_t n, int differences, double enough)
{
    return n < 8 ? NAME(sum_of_block)(a, b, n, differences) : NAME(sum_of_many)(a, b, n, differences, enough);
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
