/*
 * Searches that are divided among threads.
 */

/* The numbers that a core looks at in a nanosecond, and nanoseconds to keep a row; they only decide what is divided. */
#define SCANNED 5
#define LOOKED_AT 10
#define MULTIPLIED 40
#define COMPARED 1.5
#define KEPT 10
#define WORTH_A_PART 5000 /* nanoseconds, where threads are awake */
#define WORTH_WAKING 75000 /* and where they sleep */
#define PARTS 4           /* for each thread */
#define PASS 256          /* queries in a part, of very many */
#define CELLS 256         /* parts of an axis */
#define HELD (1 << 23)    /* neighbours that all parts hold together */
#define MANY 48           /* queries that are worth a pass over the rows: a few tiles, whatever the instruction set */

struct kernels {
    const char *name;
    int (*search_by_products)(struct search *, const struct block *);
    void (*compare_noted)(const struct search *, struct query *);
    void (*pack)(const struct search *, Py_ssize_t, Py_ssize_t, struct block *);
    void (*search_row_by_row)(const struct search *);
    int (*search_listed)(const struct search *);
    void (*compare_all)(int, const loose *, Py_ssize_t, const loose *, Py_ssize_t, Py_ssize_t, Py_ssize_t, float *);
    double (*length_of)(const loose *, Py_ssize_t);
};

enum way { BY_PRODUCTS, ROW_BY_ROW, LISTED };
enum outcome { DONE, NO_MEMORY, NO_SUCH_ROW };

/*
 * A search that is cut into parts, `across` by queries and `down` by rows, and what it fills. `packed` are all rows, if
 * they are at hand like that.
 */
struct division {
    struct search whole;
    enum way way;
    const struct kernels *code;
    const struct block *packed;
    const loose *vectors, *screened;
    float *values;
    int64_t *numbers;
    Py_ssize_t across, down;
    struct search *parts;
    atomic_int outcome;
};

static double length_less(const loose *vector, const loose *centre, Py_ssize_t columns)
{
    double squares = 0;
    for (Py_ssize_t j = 0; j < columns; j++) {
        double apart = (double)vector[j] - centre[j];
        squares += apart * apart;
    }
    return sqrt(squares) * (1 + 2 * (double)FLT_EPSILON);
}

static int compare_keys(const void *a, const void *b)
{
    int64_t first = *(const int64_t *)a, second = *(const int64_t *)b;
    return (first > second) - (first < second);
}

/* The numbers of rows in their order along the column that spreads them most; NULL if there is no room for it. */
static uint32_t *put_in_order(const struct search *search, struct block *block)
{
    Py_ssize_t columns = search->screened_columns, number = search->number;
    size_t panels = (size_t)(number / NARROWEST + 1) * sizeof(float);
    double widest = -1;
    for (Py_ssize_t j = 0; j < columns; j++) {
        double spread = 0;
        for (Py_ssize_t row = 0; row < number; row++) {
            double apart = (double)search->screened[row * columns + j] - search->centre[j];
            spread += apart * apart;
        }
        if (spread > widest) {
            widest = spread;
            block->axis = j;
        }
    }
    uint32_t *order = malloc((size_t)number * sizeof *order);
    int64_t *keys = malloc((size_t)number * sizeof *keys);
    int has_room = order && keys && (block->low = malloc(panels)) && (block->high = malloc(panels));
    for (Py_ssize_t row = 0; has_room && row < number; row++)
        keys[row] = key_of(search->screened[row * columns + block->axis], row);
    if (has_room)
        qsort(keys, (size_t)number, sizeof *keys, compare_keys);
    for (Py_ssize_t row = 0; has_room && row < number; row++)
        order[row] = (uint32_t)row_of_key(keys[row]);
    free(keys);
    if (has_room)
        return order;
    free(order);
    free(block->low);
    block->low = NULL;
    return NULL;
}

/* Puts queries side by side that lie in one of `CELLS` parts of the rows' axis, from one end to the other. */
static void put_side_by_side(struct search *search, const loose *queries, Py_ssize_t axis)
{
    Py_ssize_t columns = search->columns, tail = search->number / 32, ends[CELLS + 1] = {0};
    if (!(search->places = malloc((size_t)search->count * sizeof *search->places)))
        return; /* it can do without */
    float low = search->rows[search->order[tail] * columns + axis];
    float high = search->rows[search->order[search->number - 1 - tail] * columns + axis], scale = CELLS / (high - low);
#define CELL(at) ((at) > 0 ? (at) < CELLS ? (int)(at) : CELLS - 1 : 0) /* of what is no number, the first */
    for (Py_ssize_t q = 0; q < search->count; q++)
        ends[CELL((queries[q * columns + axis] - low) * scale) + 1]++;
    for (int cell = 1; cell < CELLS; cell++)
        ends[cell] += ends[cell - 1];
    for (Py_ssize_t q = 0; q < search->count; q++)
        search->places[ends[CELL((queries[q * columns + axis] - low) * scale)]++] = (uint32_t)q;
#undef CELL
}

/* Makes the queries of a search ready, from the arrays that it has for them. */
static void begin(struct search *search, const struct kernels *code, const loose *vectors, const loose *screened,
                  Py_ssize_t first)
{
    for (Py_ssize_t q = 0; q < search->count; q++) {
        Py_ssize_t place = search->places ? search->places[first + q] : first + q;
        struct query query = {.vector = vectors + place * search->columns,
                              .screened = screened + place * search->screened_columns,
                              .keys = search->keys + q * search->k, .noted = search->noted + q * search->room,
                              .bound = INFINITY};
        if (search->metric != L2)
            query.length = code->length_of(query.vector, search->columns);
        query.asked = search->metric == COSINE ? 1 : query.length * (1 + 2 * (double)FLT_EPSILON);
        if (search->metric == L2 && search->centre)
            query.asked = length_less(query.screened, search->centre, search->screened_columns);
        if (search->projects)
            query.projected = code->length_of(query.screened, search->screened_columns);
        search->queries[q] = query;
    }
}

/* Writes what was found, nearest first. */
static void give(const struct search *search, float *all_values, int64_t *all_numbers, Py_ssize_t first)
{
    for (Py_ssize_t q = 0; q < search->count; q++) {
        struct query *query = search->queries + q;
        Py_ssize_t place = search->places ? search->places[first + q] : first + q;
        float *values = all_values + place * search->k;
        int64_t *numbers = all_numbers + place * search->k;
        for (Py_ssize_t i = search->k; i-- > query->count;)
            values[i] = 0, numbers[i] = -1;
        for (Py_ssize_t left = query->count; left > 0; left--) {
            int64_t key = query->keys[0];
            float value = value_of_key(key);
            values[left - 1] = search->metric == L2 ? value : 0.0f - value;
            numbers[left - 1] = row_of_key(key);
            sink(query->keys, left - 1, query->keys[left - 1]);
        }
    }
}

static void end(struct search *search)
{
    free(search->queries);
    free(search->keys);
    free(search->noted);
    free(search->limits);
}

/* Searches with some queries, from `first` on, among the rows of one part. */
static int search_some(struct division *division, struct search *search, Py_ssize_t first)
{
    begin(search, division->code, division->vectors, division->screened, first);
    if (division->way == BY_PRODUCTS)
        return division->code->search_by_products(search, division->packed) ? DONE : NO_MEMORY;
    if (division->way == LISTED) {
        search->list = division->whole.list + first * search->listed;
        return division->code->search_listed(search) ? DONE : NO_SUCH_ROW;
    }
    division->code->search_row_by_row(search);
    return DONE;
}

/* The first query of a part; most are a whole number of tiles. */
static Py_ssize_t border(const struct division *division, Py_ssize_t across)
{
    Py_ssize_t count = division->whole.count, each = count / division->across;
    Py_ssize_t grain = each >= MANY ? MANY : each >= 4 ? 4 : 1;
    return across == division->across ? count : count * across / division->across / grain * grain;
}

static void search_part(void *with, Py_ssize_t part)
{
    struct division *division = with;
    struct search search = division->whole;
    Py_ssize_t across = part / division->down, down = part % division->down;
    Py_ssize_t first = border(division, across), last = border(division, across + 1);
    Py_ssize_t step = 1 + NOTED / (search.k + search.room), held = last - first;
    step = step < held ? step : held;
    held = division->down > 1 ? held : step;
    search.first = search.number * down / division->down;
    search.number = search.number * (down + 1) / division->down - search.first;
    search.rows += search.first * search.columns;
    search.screened += search.first * search.screened_columns;
    struct query *queries = search.queries = malloc((size_t)(held + 1) * sizeof(struct query));
    int64_t *keys = search.keys = malloc((size_t)(held * search.k + 1) * sizeof(int64_t));
    search.noted = malloc((size_t)(step * search.room + 1) * sizeof(int64_t));
    search.limits = malloc((size_t)(step + 1) * sizeof(float));
    search.leaves = division->down > 1 && step == last - first;
    int outcome = queries && keys && search.noted && search.limits ? DONE : NO_MEMORY;
    for (Py_ssize_t q = first; outcome == DONE && q < last; q += step) {
        search.count = last - q < step ? last - q : step;
        if (division->down > 1) {
            search.queries = queries + (q - first);
            search.keys = keys + (q - first) * search.k;
        }
        outcome = search_some(division, &search, q);
        if (outcome == DONE && division->down == 1)
            give(&search, division->values, division->numbers, q);
    }
    if (outcome != DONE)
        division->outcome = outcome;
    search.queries = queries;
    search.keys = keys;
    search.count = held;
    if (division->down > 1)
        division->parts[part] = search;
    else
        end(&search);
}

/* Puts together what was found, or only noted, of a share of some queries among parts of the rows. */
static void unite(void *with, Py_ssize_t part)
{
    struct division *division = with;
    Py_ssize_t down = division->down, across = part / down;
    const struct search *parts = division->parts + across * down;
    struct search search = *parts;
    Py_ssize_t first = search.count * (part % down) / down, last = search.count * (part % down + 1) / down;
    int64_t *noted = NULL;
    if (first == last)
        return;
    if (search.leaves && !(noted = malloc((size_t)(down * search.room + 1) * sizeof *noted))) {
        division->outcome = NO_MEMORY;
        return;
    }
    for (Py_ssize_t i = 1; i < down; i++)
        search.longest = fmax(search.longest, parts[i].longest);
    for (Py_ssize_t q = first; q < last; q++) {
        struct query *query = search.queries + q;
        Py_ssize_t waiting = 0;
        for (Py_ssize_t i = 0; i < down; i++) {
            const struct query *other = parts[i].queries + q;
            for (Py_ssize_t j = 0; j < other->waiting; j++)
                noted[waiting++] = other->noted[j] + parts[i].first;
            for (Py_ssize_t j = 0; i && j < other->count; j++)
                keep(query, search.k, other->keys[j]);
        }
        if (!waiting)
            continue;
        query->noted = noted;
        query->waiting = waiting;
        set_limit(&search, q); /* with room for what all parts round by */
        shrink(&search, q, 0);
        division->code->compare_noted(&search, query);
    }
    free(noted);
    search.queries += first;
    search.count = last - first;
    give(&search, division->values, division->numbers, border(division, across) + first);
}

/*
 * Decides how a search is cut: by queries if these are very many; otherwise by rows, so that all queries pass over a part of
 * them while it is in the caches, though each part then keeps k rows of its own.
 */
static void cut(struct division *division, int threads)
{
    const struct search *search = &division->whole;
    double rows = (double)search->number, count = (double)search->count, k = (double)search->k;
    double numbers = rows * (double)search->screened_columns;
    double each = division->way == LISTED       ? (double)search->listed * (double)search->columns / COMPARED
                  : search->projects            ? numbers / LOOKED_AT
                  : division->way == ROW_BY_ROW ? numbers / SCANNED
                                                : numbers / MULTIPLIED;
    /* Of rows in any order, so many are among the k nearest of those before them. */
    double kept = KEPT * k * (1 + (rows > k ? log(rows / k) : 0));
    double worth = patience ? WORTH_A_PART : WORTH_WAKING;
    double most = fmin(count * (each + kept) / worth, PARTS * (double)threads);
    division->across = division->down = 1;
    if (threads < 2 || most < 2)
        return;
    if (division->way == LISTED || division->packed)
        division->across = (Py_ssize_t)fmin(most, division->packed ? fmax(1, count / 4) : count);
    else if (count >= PASS * (double)threads)
        division->across = (Py_ssize_t)fmin(most, fmax(threads, count / PASS));
    else {
        /*
         * What a part keeps is to be a quarter of its work at most, and to fit into memory. To pack a row takes as long as
         * to multiply it with some 30 queries, so parts by queries, each of which packs all rows, are the better ones only
         * for very many; and each part has k rows of its own to find, so that for many there are no more than threads.
         */
        double fitting = fmin(each / (4 * kept), HELD / (count * k)), several = count < MANY * (double)threads ? 2 : 1;
        division->down = (Py_ssize_t)fmax(1, fmin(fmin(most, several * threads), fitting));
        if (division->down < threads)
            division->across = (Py_ssize_t)fmin(count, threads / division->down);
    }
}

/* Searches on as many threads, this one among them. */
static enum outcome search_on(struct division *division, int threads)
{
    cut(division, threads);
    Py_ssize_t parts = division->across * division->down;
    if (division->down > 1 && !(division->parts = calloc((size_t)parts, sizeof(struct search))))
        return NO_MEMORY;
    if (division->whole.order && division->whole.count >= MANY)
        put_side_by_side(&division->whole, division->vectors, division->packed->axis);
    run(search_part, division, parts, threads);
    free(division->whole.places);
    if (division->down > 1 && division->outcome == DONE) {
        double compared = (double)(division->whole.count * division->whole.k) * (double)division->whole.columns;
        run(unite, division, parts, compared / COMPARED < (patience ? WORTH_A_PART : WORTH_WAKING) ? 1 : threads);
    }
    for (Py_ssize_t part = 0; division->down > 1 && part < parts; part++)
        end(division->parts + part);
    free(division->parts);
    return division->outcome;
}
