/*
 * Search by products, for one instruction set: panels of rows are multiplied with tiles of queries, which stay in
 * registers until they are compared.
 */

/* Compares with a query what it has noted. */
static void NAME(compare_noted)(const struct search *search, struct query *query)
{
    for (; query->waiting; query->waiting--) {
        if (query->waiting > 1)
            fetch_row(search, row_of_key(query->noted[query->waiting - 2]));
        NAME(consider)(search, query, row_of_key(query->noted[query->waiting - 1]));
    }
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
        Py_ssize_t row = search->order ? search->order[start + lane] : start + lane;
        if (search->k > 1 && !search->projects && values[lane] != -INFINITY)
            query->noted[query->waiting++] = key_of(values[lane], row);
        else if (NAME(consider)(search, query, row) && !(query->limited - query->bound < fabs(query->limited) / 128))
            set_limit(search, q); /* which costs as much as the comparison */
    }
    if (query->waiting + 2 * WIDTH <= search->room)
        return;
    Py_ssize_t spare = search->room - search->k;
    shrink(search, q, spare / 4);
    if (query->waiting > search->k + spare / 2) { /* many are equally near */
        NAME(compare_noted)(search, query);
        set_limit(search, q);
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
                   search->factors + q * search->stride, search->stride, height, along, values);
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
    const float *rows = block->panels, *added = block->added, *factors = search->factors + q * search->stride;
    float *minima = groups->minima;
    for (Py_ssize_t panel = 0, next = 0; panel < panels; minima += LANES) {
        next = next + size < panels ? next + size : panels;
        for (int begun = 0; panel < next; panel++, begun = 1) {
            vec values[TILE][2];
            NAME(multiply)(rows + panel * WIDTH * columns, added + panel * WIDTH, columns, factors, search->stride,
                           height, 0, values);
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

/* Screens rows about which nothing is known for some queries. */
static void NAME(screen_first)(const struct search *search, const struct block *block, const struct groups *groups,
                               Py_ssize_t q, Py_ssize_t height)
{
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

/* Screens some panels for some queries. */
static void NAME(screen_more)(const struct search *search, const struct block *block, Py_ssize_t from, Py_ssize_t to,
                              Py_ssize_t q, Py_ssize_t height)
{
    if (from >= to)
        return;
    if (height == TILE)
        NAME(screen)(search, block, from, to, q, TILE);
    else if (height == 1)
        NAME(screen)(search, block, from, to, q, 1);
    else
        NAME(screen)(search, block, from, to, q, TILE / 3);
}

/* Makes groups of so many panels; says whether they are enough for a bound. */
static int NAME(set_groups)(const struct search *search, struct groups *groups, Py_ssize_t panels)
{
    groups->panels = panels;
    groups->size = panels * LANES / (4 * search->k);
    groups->size = groups->size < 1 ? 1 : groups->size > LARGEST_GROUP ? LARGEST_GROUP : groups->size;
    groups->count = (panels + groups->size - 1) / groups->size;
    return groups->count * LANES >= 2 * search->k;
}

/* Screens a block for all queries, the first of all in such a way that bounds are found. */
static void NAME(screen_block)(const struct search *search, const struct block *block, struct groups *groups, int first)
{
    Py_ssize_t to = (block->number + WIDTH - 1) / WIDTH, from = 0;
    if (first && !search->projects && block->safe && NAME(set_groups)(search, groups, to < groups->most ? to : groups->most))
        from = groups->panels;
    for (Py_ssize_t q = 0, height; from && q < search->count; q += height) {
        height = NAME(height_of)(search->count - q);
        NAME(screen_first)(search, block, groups, q, height);
    }
    for (Py_ssize_t q = 0, height; from < to && q < search->count; q += height) {
        height = NAME(height_of)(search->count - q);
        NAME(screen_more)(search, block, from, to, q, height);
    }
}

/*
 * Screens rows that lie along an axis, as the queries do: for each tile of these first the panels around it, and then as
 * many more as their bounds reach. Where that leaves out little, the first are as many as in another order.
 */
static void NAME(screen_along_axis)(const struct search *search, const struct block *block, struct groups *groups)
{
    Py_ssize_t panels = (block->number + WIDTH - 1) / WIDTH, most = panels < groups->most ? panels : groups->most;
    Py_ssize_t fewest = 4 + 16 * search->k / WIDTH, wanted = fewest, among = 0;
    for (Py_ssize_t q = 0, height; q < search->count; q += height) {
        height = NAME(height_of)(search->count - q);
        float low = INFINITY, high = -INFINITY;
        for (Py_ssize_t i = q; i < q + height; i++) {
            float place = search->queries[i].screened[block->axis];
            low = place < low ? place : low;
            high = place > high ? place : high;
        }
        while (among > 0 && block->high[among - 1] >= low)
            among--;
        while (among + 1 < panels && block->high[among] < low)
            among++;
        Py_ssize_t behind = among + 1;
        while (behind < panels && block->low[behind] <= high)
            behind++;
        wanted = wanted > behind - among ? wanted : behind - among;
        wanted = wanted < fewest ? fewest : wanted;
        wanted = wanted < most ? wanted : most;
        Py_ssize_t from = (among + behind - wanted) / 2;
        from = from < 0 ? 0 : from > panels - wanted ? panels - wanted : from;
        Py_ssize_t to = from + wanted, start = from * WIDTH;
        const struct block near = {
            .panels = block->panels + start * search->screened_columns, .added = block->added + start, .start = start};
        NAME(set_groups)(search, groups, wanted);
        NAME(screen_first)(search, &near, groups, q, height);
        double first = INFINITY, last = -INFINITY;
        for (Py_ssize_t i = q; i < q + height; i++) {
            const struct query *query = search->queries + i;
            double place = query->screened[block->axis], reach = sqrt(query->bound + FLT_MIN) * (1 + 8 * FLT_EPSILON);
            if (query->settled)
                continue;
            first = place - reach < first ? place - reach : first;
            last = place + reach > last ? place + reach : last;
        }
        Py_ssize_t before = from, after = to;
        while (before > 0 && block->high[before - 1] >= first)
            before--;
        while (after < panels && block->low[after] <= last)
            after++;
        NAME(screen_more)(search, block, before, from, q, height);
        NAME(screen_more)(search, block, to, after, q, height);
        wanted = after - before;
    }
}

/* Writes what products multiply with each query, and settles the queries that are none for them. */
static void NAME(begin_queries)(const struct search *search)
{
    Py_ssize_t columns = search->screened_columns, first = search->number < search->k ? search->number : search->k;
    for (Py_ssize_t q = 0; q < search->count; q++) {
        struct query *query = search->queries + q;
        float *factors = search->factors + q * search->stride;
        int alike = search->metric != L2 && !query->length; /* all rows are */
        query->settled = alike || !(query->asked < 1e18) || !(query->length <= DBL_MAX); /* or products may overflow */
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
        set_limit(search, q);
    }
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
    Py_ssize_t most = search->projects ? 0 : (FIRST_ROWS + 16 * search->k) / WIDTH, held = (packed ? all : step) / WIDTH;
    struct groups groups = {.most = most < held ? most : held};
    struct block block = {0};
    /* Lines that lie 4 KiB apart have the same few places in the L1 cache: a tile's would drive each other out. */
    search->stride = columns < STRIDED ? columns : ((columns + 15) / 16 | 1) * 16;
    size_t cells = (size_t)(groups.most * LANES), copied = packed ? 0 : (size_t)step;
    const size_t bytes[] = {
        (size_t)(search->count * search->stride) * sizeof(float),
        TILE * cells * sizeof(float),
        cells * sizeof(float),
        cells * sizeof(int64_t),
        (TILE * (size_t)groups.most + 1) * sizeof(struct pair),
        copied * (size_t)columns * sizeof(float),
        copied * sizeof(float),
    };
    void *places[7], *memory = allocate_all(bytes, 7, places);
    search->factors = places[0];
    groups.minima = places[1];
    groups.cells = places[2];
    groups.keys = places[3];
    groups.near = places[4];
    float *panels = places[5], *added = places[6];
    if (!memory)
        return 0;
    double added_up = columns < SUMMED ? (double)columns : SUMMED + (double)columns / SUMMED;
    search->relative = (added_up + 16) * FLT_EPSILON;
    search->tiny = (double)columns * FLT_MIN;
    NAME(begin_queries)(search);
    Py_ssize_t start = !search->projects ? 0 : search->k < number ? search->k : number; /* these have been compared */
    int along_axis = packed && packed->low && groups.most * LANES >= 2 * search->k;
    if (along_axis)
        NAME(screen_along_axis)(search, packed, &groups);
    for (Py_ssize_t from = start; from < number && !along_axis; from += step) {
        Py_ssize_t here = number - from < step ? number - from : step;
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
                set_limit(search, q);
        }
        NAME(screen_block)(search, &block, &groups, from == 0);
    }
    for (Py_ssize_t q = 0; q < search->count; q++) {
        if (search->queries[q].waiting > search->k)
            shrink(search, q, 0);
        if (!search->leaves)
            NAME(compare_noted)(search, search->queries + q);
    }
    free(memory);
    return 1;
}
