/*
 * What exact search, and reading of text, spend their time on: see kernels.pyi for what each function does.
 *
 * All of it runs without Python's lock. Rows may lie at any address: FAISS maps them from
 * its files at odd ones.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define INLINE inline __attribute__((always_inline))
#define NEVER_INLINE __attribute__((noinline))
#define BLOCK_NUMBERS (1 << 16) /* float32 numbers of the rows that stay in a core's cache while queries pass by */
#define STRIDED 256             /* columns from which factors of queries lie an odd number of cache lines apart */
#define FIRST_ROWS 4096         /* rows, and some for each neighbour, from which a first bound comes */
#define PADDED 32               /* rows that a panel has at most */
#define NARROWEST 8             /* and at least */
#define ORDERED 128             /* rows that are worth an order of their own */
#define LARGEST_GROUP 2         /* panels of them that have one minimum */
#define ROOM 128                /* rows that a query can note, besides two for each neighbour */
#define NOTED (1 << 18)         /* keys that are kept at a time */

#define MOST_THREADS 1024
#define PACKED "knn_container.kernels.packed"

#include "queries.h"
#include "threads.h"

typedef float eight_floats __attribute__((vector_size(32)));
typedef double eight_doubles __attribute__((vector_size(64)));
typedef float four __attribute__((vector_size(16)));

/* Columns become rows. */
static INLINE void transpose(four a[4])
{
    four low = __builtin_shufflevector(a[0], a[1], 0, 4, 1, 5), high = __builtin_shufflevector(a[0], a[1], 2, 6, 3, 7);
    four other = __builtin_shufflevector(a[2], a[3], 0, 4, 1, 5), last = __builtin_shufflevector(a[2], a[3], 2, 6, 3, 7);
    a[0] = __builtin_shufflevector(low, other, 0, 1, 4, 5);
    a[1] = __builtin_shufflevector(low, other, 2, 3, 6, 7);
    a[2] = __builtin_shufflevector(high, last, 0, 1, 4, 5);
    a[3] = __builtin_shufflevector(high, last, 2, 3, 6, 7);
}

static void *allocate(size_t bytes)
{
    return aligned_alloc(64, (bytes + 127) / 64 * 64);
}

#include "decimals.h"
#include "division.h"

/*
 * One piece of memory for several things, each at its own line; gives where they are. What glibc has aligned itself is too
 * small, once it is free, to be taken by the next call of the same size, and memory grows by it.
 */
static void *allocate_all(const size_t *bytes, int count, void **places)
{
    size_t all = 0;
    for (int i = 0; i < count; i++)
        all += (bytes[i] + 63) / 64 * 64;
    char *memory = malloc(all + 64);
    size_t at = (size_t)(-(uintptr_t)memory % 64);
    for (int i = 0; i < count; at += (bytes[i++] + 63) / 64 * 64)
        places[i] = memory ? memory + at : NULL;
    return memory;
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

#define KERNELS(name, suffix)                                                                                \
    {name, search_by_products##suffix, compare_noted##suffix, pack##suffix, search_row_by_row##suffix,       \
     search_listed##suffix, compare_all##suffix, length_of##suffix}

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
                     kind == FLOAT32 ? "float32" : "int64", buffer->ndim, buffer->format ? buffer->format : "B");
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

static int threads_of(PyObject *object)
{
    long threads = PyLong_AsLong(object);
    if (!PyErr_Occurred() && check(threads > 0, "a thread at least"))
        return threads < MOST_THREADS ? (int)threads : MOST_THREADS;
    return 0;
}

/* Takes the arrays that all searches have, which come last: the queries, the rows, and the two that are filled. */
static int take_search(struct division *division, struct arrays *arrays, PyObject *const *objects)
{
    struct search *search = &division->whole;
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
    division->vectors = division->screened = queries->buf;
    division->values = values->buf;
    division->numbers = numbers->buf;
    return check(rows->shape[1] == search->columns && search->columns > 0, "rows of as many columns as the queries") &&
           check(values->shape[0] == search->count && numbers->shape[0] == search->count &&
                     numbers->shape[1] == search->k && search->k > 0,
                 "arrays of one shape for what is found, with a row for each query") &&
           check(search->number <= UINT32_MAX, "fewer than 2^32 rows");
}

/* Rows that products need again and again; many lie in an `order` along an axis. */
struct packed {
    struct block rows;
    uint32_t *order;
    Py_ssize_t columns;
    int metric;
    const struct kernels *code;
    float centre[];
};

/* Searches, and says what there is to say. */
static PyObject *answer(struct division *division, int threads)
{
    enum outcome outcome;
    Py_BEGIN_ALLOW_THREADS;
    outcome = search_on(division, threads);
    Py_END_ALLOW_THREADS;
    if (outcome == NO_MEMORY)
        return PyErr_NoMemory();
    return check(outcome == DONE, "numbers of rows that there are") ? Py_NewRef(Py_None) : NULL;
}

/* search(metric, centre, packed, queries, rows, values, numbers, threads[, screened_queries, screened_rows]) */
static PyObject *search_all(PyObject *Py_UNUSED(module), PyObject *const *objects, Py_ssize_t given)
{
    struct division division = {.code = kernels, .way = ROW_BY_ROW};
    struct search *search = &division.whole;
    struct arrays arrays = {0};
    PyObject *result = NULL;
    if (given != 8 && given != 10)
        return PyErr_Format(PyExc_TypeError, "expected 8 or 10 arguments, got %zd", given);
    search->metric = metric_of(objects[0]);
    if (search->metric < 0 || !take_search(&division, &arrays, objects + 3))
        goto out;
    int threads = threads_of(objects[7]);
    if (threads < 1)
        goto out;
    if (given == 10) {
        Py_buffer *asked = take(&arrays, objects[8], "screened queries", 2, FLOAT32, 0);
        Py_buffer *looked_at = asked ? take(&arrays, objects[9], "screened rows", 2, FLOAT32, 0) : NULL;
        if (!looked_at)
            goto out;
        search->projects = 1;
        division.screened = asked->buf;
        search->screened = looked_at->buf;
        search->screened_columns = asked->shape[1];
        if (!check(search->metric == L2, "L2 with what is screened") ||
            !check(asked->shape[0] == search->count && looked_at->shape[0] == search->number &&
                       looked_at->shape[1] == search->screened_columns && search->screened_columns > 0,
                   "as many screened queries and rows as queries and rows, of as many columns"))
            goto out;
    }
    if (objects[1] != Py_None) {
        Py_buffer *centre = take(&arrays, objects[1], "centre", 1, FLOAT32, 0);
        if (!centre || !check(centre->shape[0] == search->screened_columns, "a centre of as many columns as the rows"))
            goto out;
        search->centre = centre->buf;
        search->room = 2 * search->k + ROOM;
        division.way = BY_PRODUCTS;
    }
    if (objects[2] != Py_None) {
        const struct packed *packed = PyCapsule_GetPointer(objects[2], PACKED);
        if (!packed || !check(search->centre && !search->projects && packed->metric == search->metric &&
                                  packed->rows.number == search->number && packed->columns == search->columns &&
                                  !memcmp(packed->centre, search->centre, (size_t)packed->columns * sizeof(float)),
                              "rows that were packed for this search"))
            goto out;
        if (packed->code == division.code) {
            division.packed = &packed->rows;
            search->order = packed->order;
        }
    }
    result = answer(&division, threads);
out:
    release(&arrays);
    return result;
}

/* search_listed(metric, list, queries, rows, values, numbers, threads) */
static PyObject *search_listed(PyObject *Py_UNUSED(module), PyObject *const *objects, Py_ssize_t given)
{
    struct division division = {.code = kernels, .way = LISTED};
    struct search *search = &division.whole;
    struct arrays arrays = {0};
    PyObject *result = NULL;
    if (given != 7)
        return PyErr_Format(PyExc_TypeError, "expected 7 arguments, got %zd", given);
    search->metric = metric_of(objects[0]);
    if (search->metric < 0 || !take_search(&division, &arrays, objects + 2))
        goto out;
    Py_buffer *list = take(&arrays, objects[1], "list", 2, INT64, 0);
    if (!list || !check(list->shape[0] == search->count, "a list of rows for each query"))
        goto out;
    search->list = list->buf;
    search->listed = list->shape[1];
    int threads = threads_of(objects[6]);
    if (threads > 0)
        result = answer(&division, threads);
out:
    release(&arrays);
    return result;
}

static void free_rows(struct packed *packed)
{
    if (packed) {
        free(packed->rows.panels);
        free(packed->rows.added);
        free(packed->rows.low);
        free(packed->rows.high);
        free(packed->order);
    }
    free(packed);
}

static void free_packed(PyObject *capsule)
{
    free_rows(PyCapsule_GetPointer(capsule, PACKED));
}

/* pack(metric, centre, rows) */
static PyObject *pack(PyObject *Py_UNUSED(module), PyObject *const *objects, Py_ssize_t given)
{
    struct arrays arrays = {0};
    PyObject *result = NULL;
    if (given != 3)
        return PyErr_Format(PyExc_TypeError, "expected 3 arguments, got %zd", given);
    struct search search = {.metric = metric_of(objects[0])};
    Py_buffer *centre = search.metric < 0 ? NULL : take(&arrays, objects[1], "centre", 1, FLOAT32, 0);
    Py_buffer *rows = centre ? take(&arrays, objects[2], "rows", 2, FLOAT32, 0) : NULL;
    if (!rows || !check(rows->shape[1] == centre->shape[0] && rows->shape[1] > 0, "a centre of as many columns as the rows"))
        goto out;
    search.centre = centre->buf;
    search.screened = rows->buf;
    search.screened_columns = rows->shape[1];
    search.number = rows->shape[0];
    size_t room = (size_t)(rows->shape[0] / PADDED + 1) * PADDED * sizeof(float);
    size_t bytes = (size_t)centre->len;
    struct packed *packed = calloc(1, sizeof *packed + bytes);
    int has_room = packed && (packed->rows.panels = allocate(room * (size_t)rows->shape[1])) &&
                   (packed->rows.added = allocate(room));
    if (has_room && (result = PyCapsule_New(packed, PACKED, free_packed))) {
        packed->columns = rows->shape[1];
        packed->metric = search.metric;
        packed->code = kernels;
        memcpy(packed->centre, centre->buf, bytes);
        Py_BEGIN_ALLOW_THREADS;
        packed->code->pack(&search, 0, search.number, &packed->rows);
        if (search.metric == L2 && search.number >= ORDERED && packed->rows.safe &&
            (search.order = packed->order = put_in_order(&search, &packed->rows)))
            packed->code->pack(&search, 0, search.number, &packed->rows);
        Py_END_ALLOW_THREADS;
    } else
        free_rows(packed);
    if (!result && !PyErr_Occurred())
        PyErr_NoMemory();
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

/* parse_numbers(text) */
static PyObject *parse_numbers(PyObject *Py_UNUSED(module), PyObject *object)
{
    const char *text;
    Py_ssize_t length, cells = 0, columns;
    if (!PyBytes_Check(object))
        return PyErr_Format(PyExc_TypeError, "expected bytes, got %.80s", Py_TYPE(object)->tp_name);
    text = PyBytes_AS_STRING(object);
    length = PyBytes_GET_SIZE(object);
    if (!check(length && text[length - 1] == '\n', "lines, each with its end"))
        return NULL;
    Py_BEGIN_ALLOW_THREADS;
    for (Py_ssize_t i = 0; i < length; i++)
        cells += (text[i] == ',') | (text[i] == '\n');
    Py_END_ALLOW_THREADS;
    PyObject *numbers = PyBytes_FromStringAndSize(NULL, cells * (Py_ssize_t)sizeof(double));
    if (!numbers)
        return NULL;
    Py_BEGIN_ALLOW_THREADS;
    columns = read_lines(text, text + length, (double *)PyBytes_AS_STRING(numbers));
    Py_END_ALLOW_THREADS;
    PyObject *result = columns ? Py_BuildValue("On", numbers, columns) : Py_NewRef(Py_None);
    Py_DECREF(numbers);
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
    {"pack", (PyCFunction)(void (*)(void))pack, METH_FASTCALL, NULL},
    {"compare", (PyCFunction)(void (*)(void))compare, METH_FASTCALL, NULL},
    {"parse_numbers", parse_numbers, METH_O, NULL},
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
    read_policy();
    if (begin_decimals())
        return PyErr_SetFromErrno(PyExc_OSError), -1;
    return pthread_atfork(NULL, NULL, forget_threads) ? PyErr_NoMemory(), -1 : 0;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, start}, {0, NULL}};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "kernels", .m_doc = "Inner loops.", .m_methods = methods, .m_slots = slots};

PyMODINIT_FUNC PyInit_kernels(void)
{
    return PyModuleDef_Init(&definition);
}
