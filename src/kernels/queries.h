/*
 * A search, its queries, and the nearest rows that were found of each.
 *
 * Values that are compared are distances, or similarities with their sign changed: smaller is nearer. Two kinds of them
 * are kept. Those of float64 are exact, and the nearest k are the answer. Those of float32 come from products and are
 * rounded; they are mostly only noted, and the k-th smallest of them, with all its rounding, bounds what is near. So hardly
 * more rows are compared in float64 than float32 cannot tell apart. The bounds on rounding are those of Higham, "Accuracy and
 * Stability of Numerical Algorithms", section 3.1, with twice the unit roundoff.
 */

#define SUMMED 128 /* products that are added up before their sum is added to others */
#define LINE 64    /* bytes that come from memory at a time */

enum metric { L2, INNER_PRODUCT, COSINE };

typedef float loose __attribute__((aligned(1), may_alias));

/*
 * A query, and the nearest rows found so far.
 *
 * `keys` is a heap of `count` exact keys with the furthest on top; a key is ordered by the value and then by the row.
 * Once there are k, `worst` is the value on top. `noted` holds `waiting` keys of rounded values. The k-th smallest value
 * is no larger than `bound`; the query's limit comes from what that was when it was `limited`. `length` is that of the
 * vector, for similarities. `asked` is what the bound of products needs: under L2 the length of what is screened less the
 * centre, under INNER_PRODUCT that of the vector, under COSINE 1. `projected` is the length of what is screened, where
 * that is not the vector. A query that is `settled` is not multiplied.
 */
struct query {
    const loose *vector, *screened;
    double length, asked, projected, bound, limited;
    int64_t *keys, *noted;
    Py_ssize_t count, waiting;
    float worst;
    int settled;
};

/*
 * A search among `number` rows, numbered from `first` on; `screened` are the rows or, if it `projects`, their
 * projections. If the rows of panels do not lie in their own `order`, these are their numbers; if the queries do not,
 * `places` are theirs. By products, `factors` are (count, columns) what rows are multiplied with, those of queries
 * `stride` numbers apart, and a row whose value is more than `limits` has for the query is not near to it. Each query can
 * note `room` rows; in the end they are compared, unless the search `leaves` them to one among more rows. No row so far is
 * longer than `longest`, by which similarities round; products round by a `relative` and a `tiny` error.
 */
struct search {
    int metric, projects, leaves;
    const loose *rows, *screened, *centre;
    Py_ssize_t number, columns, screened_columns, first, k, count, listed, room, stride;
    struct query *queries;
    int64_t *keys, *noted;
    const int64_t *list;
    const uint32_t *order;
    uint32_t *places;
    float *factors, *limits;
    double longest, relative, tiny;
};

/*
 * `number` rows from `start` on as products need them: panels of as many rows as two vectors hold, column by column,
 * shifted by the centre or scaled to length 1, and what is `added` to the products. Rows that float32 could let overflow
 * or round too much are zero there, with -inf added, so that they are always looked at; behind the last row come some
 * with inf added. `safe` says that there are none of the former. `longest` is no less than the length of any other row
 * under similarities.
 *
 * Where rows do not lie in their own order but along the column `axis`, `low` and `high` are the smallest and the largest
 * number there of each panel.
 */
struct block {
    float *panels, *added, *low, *high;
    Py_ssize_t start, number, axis;
    double longest;
    int safe;
};

/*
 * Groups of `size` panels of a block, `panels` in all, from whose smallest values a first bound comes. `minima` has room
 * for a vector for each group, of as many queries as are multiplied at once; `cells` and `keys` for one of each.
 */
struct groups {
    Py_ssize_t most, panels, size, count;
    float *minima, *cells;
    int64_t *keys;
    struct pair {
        Py_ssize_t query, panel;
    } *near;
};

/* One integer holds the order of a value, as the bits of a float32 have it, and below it the row. */
static inline int64_t key_of(float value, int64_t row)
{
    int32_t order;
    value += 0.0f; /* of the two zeros, one */
    memcpy(&order, &value, sizeof order);
    order ^= order >> 31 & INT32_MAX;
    return (int64_t)((uint64_t)(uint32_t)order << 32 | (uint64_t)row);
}

static inline float value_of_key(int64_t key)
{
    int32_t order = (int32_t)(key >> 32);
    float value;
    order ^= order >> 31 & INT32_MAX;
    memcpy(&value, &order, sizeof value);
    return value;
}

static inline int64_t row_of_key(int64_t key)
{
    return key & UINT32_MAX;
}

/* Asks for what will be read soon; a place where nothing is does no harm. */
static inline void fetch(const void *place)
{
    __builtin_prefetch(place, 0, 2);
}

static inline void fetch_row(const struct search *search, Py_ssize_t number)
{
    const char *row = (const char *)(search->rows + number * search->columns);
    for (size_t at = 0; at < (size_t)search->columns * sizeof(float); at += LINE)
        fetch(row + at);
}

static inline float rounded_up(double value)
{
    return (float)(value + fabs(value) * FLT_EPSILON);
}

static inline void sink(int64_t *keys, Py_ssize_t count, int64_t key)
{
    Py_ssize_t hole = 0;
    for (Py_ssize_t child = 1; child < count; child = 2 * hole + 1) {
        child += child + 1 < count && keys[child + 1] > keys[child];
        if (keys[child] <= key)
            break;
        keys[hole] = keys[child];
        hole = child;
    }
    keys[hole] = key;
}

/* Keeps an exact key if it is among the k smallest; says whether the largest of k has changed. */
static int keep(struct query *query, Py_ssize_t k, int64_t key)
{
    int64_t *keys = query->keys;
    if (query->count < k) {
        Py_ssize_t hole = query->count++;
        for (; hole && keys[(hole - 1) / 2] < key; hole = (hole - 1) / 2)
            keys[hole] = keys[(hole - 1) / 2];
        keys[hole] = key;
        if (query->count < k)
            return 0;
    } else if (key < keys[0])
        sink(keys, k, key);
    else
        return 0;
    query->worst = value_of_key(keys[0]);
    if (query->worst < FLT_MAX && query->worst < query->bound)
        query->bound = query->worst;
    return 1;
}

/* Puts some of the smallest of distinct keys first, at least k and about `more` besides; says how many. */
static Py_ssize_t select_smallest(int64_t *keys, Py_ssize_t count, Py_ssize_t k, Py_ssize_t more)
{
    Py_ssize_t low = 0, high = count; /* those before `low` are among the smallest k, those from `high` on are not */
    while (high > k + more) {
        int64_t a = keys[low], b = keys[low + (high - low) / 2], c = keys[high - 1], pivot;
        pivot = a < b ? (b < c ? b : a < c ? c : a) : (a < c ? a : b < c ? c : b);
        Py_ssize_t border = low;
        for (Py_ssize_t i = low; i < high; i++) {
            int64_t key = keys[i];
            keys[i] = keys[border];
            keys[border] = key;
            border += key <= pivot;
        }
        if (border >= k && border < high)
            high = border;
        else if (border < k)
            low = border;
        else /* of two, the larger */
            break;
    }
    return high;
}

/* What the rounding of products may come to, of rows within a value of a query. */
static inline double rounding(const struct search *search, const struct query *query, double value)
{
    if (search->metric != L2)
        return search->relative * query->asked * search->longest + search->tiny;
    /* From the centre, a row within this distance is no further, squared, than twice the sum of both. */
    return 5 * search->relative * (value + query->asked * query->asked) + 4 * search->tiny;
}

/* The largest distance that what is screened of a row can have if the row is within a distance. */
static inline double screened_distance(const struct search *search, const struct query *query, double distance)
{
    if (!search->projects)
        return distance;
    /* Both were rounded to float32; what directions leave is the root of a difference that float64 has rounded. */
    double columns = (double)search->columns, directions = (double)search->screened_columns;
    double share = 8 * FLT_EPSILON + sqrt(2 * sqrt(directions) * columns * DBL_EPSILON);
    double apart = sqrt(distance) * (1 + FLT_EPSILON);
    apart += share * (2 * query->projected + apart);
    return apart * apart;
}

/* The largest value in float32, by way of products, that one of the nearest rows can have. */
static inline float limit_of_products(const struct search *search, const struct query *query)
{
    if (query->settled)
        return -INFINITY;
    if (!(query->bound < FLT_MAX))
        return FLT_MAX;
    double value = search->metric == L2 ? screened_distance(search, query, query->bound) : query->bound;
    double limit = value + rounding(search, query, value);
    if (search->metric == L2)
        limit -= query->asked * query->asked;
    return limit < FLT_MAX / 2 ? rounded_up(limit) : FLT_MAX;
}

static inline void set_limit(const struct search *search, Py_ssize_t q)
{
    search->queries[q].limited = search->queries[q].bound;
    search->limits[q] = limit_of_products(search, search->queries + q);
}

/* Takes note that k rows have no larger value, by way of products, than this. */
static inline void take_bound(const struct search *search, Py_ssize_t q, float value)
{
    struct query *query = search->queries + q;
    double bound = value;
    if (!(value < FLT_MAX))
        return;
    if (search->metric == L2) {
        bound += query->asked * query->asked;
        bound = bound > 0 ? bound : 0;
    }
    bound += 1.5 * rounding(search, query, bound); /* half as much again, since it is a share of the exact value */
    if (bound < query->bound) {
        query->bound = bound;
        set_limit(search, q);
    }
}

/* Lowers the limit by what was noted, and forgets what is beyond it. */
static void shrink(const struct search *search, Py_ssize_t q, Py_ssize_t more)
{
    struct query *query = search->queries + q;
    if (query->waiting > search->k) {
        Py_ssize_t count = select_smallest(query->noted, query->waiting, search->k, more);
        int64_t largest = query->noted[0];
        for (Py_ssize_t i = 1; i < count; i++)
            largest = query->noted[i] > largest ? query->noted[i] : largest;
        take_bound(search, q, value_of_key(largest));
    }
    int64_t last = key_of(search->limits[q], UINT32_MAX);
    Py_ssize_t kept = 0;
    for (Py_ssize_t i = 0; i < query->waiting; i++) {
        query->noted[kept] = query->noted[i];
        kept += query->noted[kept] <= last;
    }
    query->waiting = kept;
}

/* The k-th smallest of some values, or infinity; `keys` has room for them. */
static float kth_smallest(const float *values, Py_ssize_t count, Py_ssize_t k, int64_t *keys)
{
    if (k > count)
        return INFINITY;
    for (Py_ssize_t i = 0; i < count; i++)
        keys[i] = key_of(values[i], i);
    Py_ssize_t some = select_smallest(keys, count, k, 0);
    int64_t largest = keys[0];
    for (Py_ssize_t i = 1; i < some; i++)
        largest = keys[i] > largest ? keys[i] : largest;
    return value_of_key(largest);
}
