/*
 * What exact search spends its time on: see kernels.pyi for what each function does.
 *
 * All of it runs without Python's lock and on the thread that asks. Rows may lie at any address: FAISS maps them from
 * its files at odd ones.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define INLINE inline __attribute__((always_inline))
#define BLOCK_NUMBERS (1 << 16) /* float32 numbers of the rows that stay in a core's cache while queries pass by */
#define FIRST 3     /* rows at least that every query is compared with in float64, for a first limit */
#define SUMMED 128  /* products that are added up before their sum is added to others */

enum metric { L2, INNER_PRODUCT, COSINE };

typedef float loose __attribute__((aligned(1), may_alias));
typedef float eight_floats __attribute__((vector_size(32)));
typedef double eight_doubles __attribute__((vector_size(64)));

/*
 * A query, and the nearest rows found so far.
 *
 * `keys` is a heap with the furthest on top; a key is ordered by the value and then by the row. Once it is full, `worst`
 * is the value on top, smaller being nearer. `length` is that of the vector, for similarities. `asked` is what the bound
 * of products needs: under L2 the length of what is screened less the centre, under INNER_PRODUCT that of the vector,
 * under COSINE 1. `projected` is the length of what is screened, where that is not the vector.
 */
struct query {
    const loose *vector, *screened;
    double length, asked, projected;
    int64_t *keys;
    Py_ssize_t count;
    float worst;
};

/*
 * A search among `number` rows, numbered from `first` on; `screened` are the rows or, if it `projects`, their
 * projections.
 */
struct search {
    int metric, projects;
    const loose *rows, *screened, *centre;
    Py_ssize_t number, columns, screened_columns, first, k, count, listed;
    struct query *queries;
    const int64_t *list;
};

/* One integer holds the order of a value, as the bits of a float32 have it, and below it the row. */
static inline int64_t key_of(int metric, float value, int64_t row)
{
    int32_t order;
    value = metric == L2 ? value : -value;
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

/* Keeps a key if it is among the k smallest; says whether the largest of k has changed. */
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
    return 1;
}

static inline float rounded_up(double value)
{
    return (float)(value + fabs(value) * FLT_EPSILON);
}

static void *allocate(size_t bytes)
{
    return aligned_alloc(64, (bytes + 127) / 64 * 64);
}

#define JOIN(a, b) a##b
#define JOINED(a, b) JOIN(a, b)
#define NAME(name) JOINED(name, SUFFIX)

/* To be compiled without contraction: but for `multiply_add`, a product is rounded before it is added. */

#define SUFFIX _anywhere
#include "search.h"
#undef SUFFIX

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define HAS_CHOICE
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#define KERNEL_AVX2
#define SUFFIX _avx2
#include "search.h"
#undef SUFFIX
#undef KERNEL_AVX2
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx2,fma")
#define KERNEL_AVX512
#define SUFFIX _avx512
#include "search.h"
#undef SUFFIX
#undef KERNEL_AVX512
#pragma GCC pop_options
#endif

struct kernels {
    const char *name;
    int (*search_by_products)(const struct search *);
    void (*search_row_by_row)(const struct search *);
    int (*search_listed)(const struct search *);
    void (*compare_all)(int, const loose *, Py_ssize_t, const loose *, Py_ssize_t, Py_ssize_t, Py_ssize_t, float *);
    double (*length_of)(const loose *, Py_ssize_t);
};

#define KERNELS(name, suffix)                                                                                            \
    {name, search_by_products##suffix, search_row_by_row##suffix, search_listed##suffix, compare_all##suffix,            \
     length_of##suffix}

static const struct kernels choices[] = {
#ifdef HAS_CHOICE
    KERNELS("avx512", _avx512),
    KERNELS("avx2", _avx2),
#endif
    KERNELS("any", _anywhere),
};
static const struct kernels *kernels = choices;

static int is_supported(const char *name)
{
#ifdef HAS_CHOICE
    if (!strcmp(name, "avx512"))
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("fma");
    if (!strcmp(name, "avx2"))
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return !strcmp(name, "any");
}

/* Arrays that a call has taken. */
struct arrays {
    Py_buffer taken[8];
    int count;
};

static void release(struct arrays *arrays)
{
    while (arrays->count)
        PyBuffer_Release(&arrays->taken[--arrays->count]);
}

enum kind { FLOAT32, INT64 };

/*
 * Takes a contiguous array of numbers, of some dimensions or, if that is `open`, of one more; NULL, with an exception, if
 * it is none.
 */
static Py_buffer *take_open(struct arrays *arrays, PyObject *object, const char *name, int dimensions, int open,
                            enum kind kind, int written)
{
    Py_buffer *buffer = &arrays->taken[arrays->count];
    if (PyObject_GetBuffer(object, buffer, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (written ? PyBUF_WRITABLE : 0)))
        return NULL;
    arrays->count++;
    const char *format = buffer->format ? buffer->format : "B";
    format += *format && strchr("@=<^", *format) ? 1 : 0; /* where there is code for it, all is little-endian */
    Py_ssize_t bytes = kind == FLOAT32 ? 4 : 8;
    int fits = *format && strchr(kind == FLOAT32 ? "f" : "lq", *format) && !format[1] && buffer->itemsize == bytes;
    if (!fits || (buffer->ndim != dimensions && buffer->ndim != dimensions + open)) {
        PyErr_Format(PyExc_ValueError, "%s: expected %d dimensions of %s, got %d of format '%s'", name, dimensions,
                     kind == FLOAT32 ? "float32" : "int64", buffer->ndim, buffer->format);
        return NULL;
    }
    if ((written || kind == INT64) && (uintptr_t)buffer->buf % (uintptr_t)bytes) {
        PyErr_Format(PyExc_ValueError, "%s: expected an aligned array", name);
        return NULL;
    }
    return buffer;
}

static Py_buffer *take(struct arrays *arrays, PyObject *object, const char *name, int dimensions, enum kind kind, int written)
{
    return take_open(arrays, object, name, dimensions, 0, kind, written);
}

static int check(int holds, const char *what)
{
    if (!holds)
        PyErr_Format(PyExc_ValueError, "expected %s", what);
    return holds;
}

static int metric_of(PyObject *object)
{
    long metric = PyLong_AsLong(object);
    if (metric < L2 || metric > COSINE) {
        if (!PyErr_Occurred())
            PyErr_Format(PyExc_ValueError, "metric: expected 0 to 2, got %ld", metric);
        return -1;
    }
    return (int)metric;
}

static double length_less(const loose *vector, const loose *centre, Py_ssize_t columns)
{
    double squares = 0;
    for (Py_ssize_t j = 0; j < columns; j++) {
        double apart = (double)vector[j] - centre[j];
        squares += apart * apart;
    }
    return sqrt(squares) * (1 + 2 * (double)FLT_EPSILON);
}

/* Makes the queries of a search ready; 0 if there is no memory. */
static int begin(struct search *search, const struct kernels *code, const loose *vectors, const loose *screened)
{
    search->queries = calloc((size_t)(search->count + 1), sizeof(struct query));
    int64_t *keys = malloc((size_t)(search->count * search->k + 1) * sizeof(int64_t));
    if (!search->queries || !keys) {
        free(keys);
        return 0;
    }
    search->queries->keys = keys;
    for (Py_ssize_t q = 0; q < search->count; q++) {
        struct query *query = search->queries + q;
        query->vector = vectors + q * search->columns;
        query->screened = screened + q * search->screened_columns;
        query->keys = keys + q * search->k;
        if (search->metric != L2)
            query->length = code->length_of(query->vector, search->columns);
        query->asked = search->metric == COSINE ? 1 : query->length * (1 + 2 * (double)FLT_EPSILON);
        if (search->metric == L2 && search->centre)
            query->asked = length_less(query->screened, search->centre, search->screened_columns);
        if (search->projects)
            query->projected = code->length_of(query->screened, search->screened_columns);
    }
    return 1;
}

/* Writes what was found, nearest first. */
static void give(const struct search *search, float *values, int64_t *numbers)
{
    for (Py_ssize_t q = 0; q < search->count; q++) {
        struct query *query = search->queries + q;
        for (Py_ssize_t i = search->k; i-- > 0; values++, numbers++)
            *values = 0, *numbers = -1;
        for (Py_ssize_t left = query->count; left > 0; left--) {
            Py_ssize_t place = left - 1 - search->k;
            int64_t key = query->keys[0];
            float value = value_of_key(key);
            values[place] = search->metric == L2 ? value : -value;
            numbers[place] = key & UINT32_MAX;
            sink(query->keys, left - 1, query->keys[left - 1]);
        }
    }
}

static void end(struct search *search)
{
    if (search->queries)
        free(search->queries->keys);
    free(search->queries);
}

/* Takes the arrays that all searches have, which come last: the queries, the rows, and the two that are filled. */
static int take_search(struct search *search, struct arrays *arrays, PyObject *const *objects)
{
    Py_buffer *queries = take(arrays, objects[0], "queries", 2, FLOAT32, 0);
    Py_buffer *rows = queries ? take(arrays, objects[1], "rows", 2, FLOAT32, 0) : NULL;
    Py_buffer *values = rows ? take(arrays, objects[2], "values", 2, FLOAT32, 1) : NULL;
    Py_buffer *numbers = values ? take(arrays, objects[3], "numbers", 2, INT64, 1) : NULL;
    if (!numbers)
        return 0;
    search->count = queries->shape[0];
    search->columns = search->screened_columns = queries->shape[1];
    search->number = rows->shape[0];
    search->rows = search->screened = rows->buf;
    search->k = values->shape[1];
    return check(rows->shape[1] == search->columns && search->columns > 0, "rows of as many columns as the queries") &&
           check(values->shape[0] == search->count && numbers->shape[0] == search->count &&
                     numbers->shape[1] == search->k && search->k > 0,
                 "arrays of one shape for what is found, with a row for each query") &&
           check(search->first >= 0 && search->number <= UINT32_MAX - search->first, "fewer than 2^32 rows");
}

/* search(metric, centre, queries, rows, values, numbers, first[, screened_queries, screened_rows]) */
static PyObject *search_all(PyObject *Py_UNUSED(module), PyObject *const *objects, Py_ssize_t given)
{
    struct search search = {0};
    struct arrays arrays = {0};
    PyObject *result = NULL;
    if (given != 7 && given != 9)
        return PyErr_Format(PyExc_TypeError, "expected 7 or 9 arguments, got %zd", given);
    search.metric = metric_of(objects[0]);
    if (search.metric < 0)
        return NULL;
    search.first = PyLong_AsSsize_t(objects[6]);
    if (PyErr_Occurred() || !take_search(&search, &arrays, objects + 2))
        goto out;
    const loose *vectors = arrays.taken[0].buf, *screened = vectors;
    if (given == 9) {
        Py_buffer *asked = take(&arrays, objects[7], "screened queries", 2, FLOAT32, 0);
        Py_buffer *looked_at = asked ? take(&arrays, objects[8], "screened rows", 2, FLOAT32, 0) : NULL;
        if (!looked_at)
            goto out;
        search.projects = 1;
        screened = asked->buf;
        search.screened = looked_at->buf;
        search.screened_columns = asked->shape[1];
        if (!check(search.metric == L2, "L2 with what is screened") ||
            !check(asked->shape[0] == search.count && looked_at->shape[0] == search.number &&
                       looked_at->shape[1] == search.screened_columns && search.screened_columns > 0,
                   "as many screened queries and rows as queries and rows, of as many columns"))
            goto out;
    }
    if (objects[1] != Py_None) {
        Py_buffer *centre = take(&arrays, objects[1], "centre", 1, FLOAT32, 0);
        if (!centre || !check(centre->shape[0] == search.screened_columns, "a centre of as many columns as the rows"))
            goto out;
        search.centre = centre->buf;
    }
    int done;
    float *values = arrays.taken[2].buf;
    int64_t *numbers = arrays.taken[3].buf;
    const struct kernels *code = kernels;
    Py_BEGIN_ALLOW_THREADS;
    done = begin(&search, code, vectors, screened);
    if (done && search.centre)
        done = code->search_by_products(&search);
    else if (done)
        code->search_row_by_row(&search);
    if (done)
        give(&search, values, numbers);
    end(&search);
    Py_END_ALLOW_THREADS;
    result = done ? Py_NewRef(Py_None) : PyErr_NoMemory();
out:
    release(&arrays);
    return result;
}

/* search_listed(metric, list, queries, rows, values, numbers) */
static PyObject *search_listed(PyObject *Py_UNUSED(module), PyObject *const *objects, Py_ssize_t given)
{
    struct search search = {0};
    struct arrays arrays = {0};
    PyObject *result = NULL;
    if (given != 6)
        return PyErr_Format(PyExc_TypeError, "expected 6 arguments, got %zd", given);
    search.metric = metric_of(objects[0]);
    if (search.metric < 0 || !take_search(&search, &arrays, objects + 2))
        goto out;
    Py_buffer *list = take(&arrays, objects[1], "list", 2, INT64, 0);
    if (!list || !check(list->shape[0] == search.count, "a list of rows for each query"))
        goto out;
    search.list = list->buf;
    search.listed = list->shape[1];
    int done, there = 1;
    const loose *vectors = arrays.taken[0].buf;
    float *values = arrays.taken[2].buf;
    int64_t *numbers = arrays.taken[3].buf;
    const struct kernels *code = kernels;
    Py_BEGIN_ALLOW_THREADS;
    done = begin(&search, code, vectors, vectors);
    if (done) {
        there = code->search_listed(&search);
        give(&search, values, numbers);
    }
    end(&search);
    Py_END_ALLOW_THREADS;
    if (!done)
        PyErr_NoMemory();
    else if (check(there, "numbers of rows that there are"))
        result = Py_NewRef(Py_None);
out:
    release(&arrays);
    return result;
}

/* compare(metric, queries, rows, values) */
static PyObject *compare(PyObject *Py_UNUSED(module), PyObject *const *objects, Py_ssize_t given)
{
    struct arrays arrays = {0};
    PyObject *result = NULL;
    if (given != 4)
        return PyErr_Format(PyExc_TypeError, "expected 4 arguments, got %zd", given);
    int metric = metric_of(objects[0]);
    if (metric < 0)
        return NULL;
    Py_buffer *queries = take(&arrays, objects[1], "queries", 2, FLOAT32, 0);
    Py_buffer *values = queries ? take(&arrays, objects[3], "values", 2, FLOAT32, 1) : NULL;
    Py_buffer *rows = values ? take_open(&arrays, objects[2], "rows", 2, 1, FLOAT32, 0) : NULL;
    if (!rows)
        goto out;
    int own = rows->ndim == 3;
    Py_ssize_t count = values->shape[0], number = values->shape[1], columns = queries->shape[1];
    if (!check(queries->shape[0] == count && rows->shape[own] == number && rows->shape[own + 1] == columns &&
                   (!own || rows->shape[0] == count),
               "rows for all queries or for each, of as many columns, and a value for each pair"))
        goto out;
    Py_BEGIN_ALLOW_THREADS;
    kernels->compare_all(metric, queries->buf, count, rows->buf, number, own ? number : 0, columns, values->buf);
    Py_END_ALLOW_THREADS;
    result = Py_NewRef(Py_None);
out:
    release(&arrays);
    return result;
}

static PyObject *instruction_sets(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(nothing))
{
    PyObject *names = PyList_New(0);
    for (size_t i = 0; names && i < sizeof choices / sizeof *choices; i++)
        if (is_supported(choices[i].name)) {
            PyObject *name = PyUnicode_FromString(choices[i].name);
            if (!name || PyList_Append(names, name))
                Py_CLEAR(names);
            Py_XDECREF(name);
        }
    return names;
}

static PyObject *use(PyObject *Py_UNUSED(module), PyObject *object)
{
    const char *name = PyUnicode_AsUTF8(object);
    if (!name)
        return NULL;
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++)
        if (!strcmp(choices[i].name, name) && is_supported(name)) {
            kernels = choices + i;
            Py_RETURN_NONE;
        }
    return PyErr_Format(PyExc_ValueError, "expected an instruction set of this machine, got '%s'", name);
}

static PyMethodDef methods[] = {
    {"search", (PyCFunction)(void (*)(void))search_all, METH_FASTCALL, NULL},
    {"search_listed", (PyCFunction)(void (*)(void))search_listed, METH_FASTCALL, NULL},
    {"compare", (PyCFunction)(void (*)(void))compare, METH_FASTCALL, NULL},
    {"instruction_sets", instruction_sets, METH_NOARGS, NULL},
    {"use", use, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static int start(PyObject *Py_UNUSED(module))
{
#ifdef HAS_CHOICE
    __builtin_cpu_init();
#endif
    while (!is_supported(kernels->name))
        kernels++;
    return 0;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, start}, {0, NULL}};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "kernels", .m_doc = "Exact search.", .m_methods = methods, .m_slots = slots};

PyMODINIT_FUNC PyInit_kernels(void)
{
    return PyModuleDef_Init(&definition);
}
