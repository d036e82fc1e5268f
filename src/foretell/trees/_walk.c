/* Sums of the leaves that rows come to in a forest; trees/forest.py describes the arrays.
 *
 * No numpy here: arrays come as buffers. The GIL is let go while rows walk, and a call is one thread's: who wants more
 * calls for pieces of the rows. Compiled with -ffp-contract=off, as a fused multiply-add would change last bits.
 */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#if defined(__GNUC__) || defined(__clang__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif

#define COLUMN 0x00FFFFFFu
#define MISSING_LEFT_BIT 31
#define MISSING_LEFT (1u << MISSING_LEFT_BIT)
#define ZERO_IS_MISSING (1u << 30)
#define CATEGORIES (1u << 29)
#define OTHERS_LEFT (1u << 28)
#define TOWARD_ZERO (1u << 27)
#define NO_NUMBER 1e-35f /* LightGBM's kZeroThreshold */

enum { NUMBERS, PAIRS, ANYTHING };

enum { LANES = 16, BLOCK_BYTES = 1 << 14, SMALL_TREE = 1 << 16, LEAST_BLOCK = 64, LARGEST_BLOCK = 1 << 14 };

typedef struct {
    int32_t root, output; /* its leaves count for this output, or for width of them from this one on */
    int32_t steps, more;  /* so many steps at once, and then, if more, until no walk goes on */
} Tree;

#define NUMBER float
#define SUM float
#define NAME(x) x##_ff
#include "_walk.h"

#define NUMBER float
#define SUM double
#define NAME(x) x##_fd
#include "_walk.h"

#define NUMBER double
#define SUM double
#define NAME(x) x##_dd
#include "_walk.h"

enum { NODES, TREES, LEAVES, SLOTS, BITS, ROWS, SUMS, BUFFERS };

typedef struct {
    Py_buffer buffers[BUFFERS];
    int filled;
    char number, sum;
    Py_ssize_t width, columns, outputs, nodes, trees, leaves, bits;
    int anything;
} Given;

static void let_go(Given *given)
{
    for (int k = 0; k < BUFFERS; k++)
        if (given->filled & 1 << k)
            PyBuffer_Release(&given->buffers[k]);
}

static int take(Given *given, int at, PyObject *from, int writes)
{
    if (PyObject_GetBuffer(from, &given->buffers[at], writes ? PyBUF_CONTIG : PyBUF_CONTIG_RO))
        return 0;
    given->filled |= 1 << at;
    return 1;
}

static int misfit(const char *what)
{
    PyErr_Format(PyExc_ValueError, "the forest cannot be used: %s", what);
    return 0;
}

static Py_ssize_t node_size(const Given *given) { return given->number == 'f' ? sizeof(Node_ff) : sizeof(Node_dd); }

static Py_ssize_t size_of(char kind) { return kind == 'f' ? sizeof(float) : sizeof(double); }

/* (kinds, nodes, trees, leaves, slots, bits, width, columns, outputs): what every call is given of a forest. */
static int taken(Given *given, PyObject *args, PyObject **rows, PyObject **sums)
{
    const char *kinds;
    PyObject *nodes, *trees, *leaves, *slots, *bits;
    if (!PyArg_ParseTuple(args, rows ? "sOOOOOnnniOO" : "sOOOOOnnn", &kinds, &nodes, &trees, &leaves, &slots, &bits,
                          &given->width, &given->columns, &given->outputs, &given->anything, rows, sums))
        return 0;
    given->number = kinds[0];
    given->sum = kinds[0] ? kinds[1] : 0;
    if ((given->number != 'f' || (given->sum != 'f' && given->sum != 'd')) &&
        (given->number != 'd' || given->sum != 'd'))
        return misfit("its numbers are of no kind that is known");
    if (given->width < 1 || given->columns < 1 || given->outputs < given->width || given->columns > COLUMN)
        return misfit("its sizes are impossible");
    if (!take(given, NODES, nodes, 0) || !take(given, TREES, trees, 0) || !take(given, LEAVES, leaves, 0) ||
        !take(given, SLOTS, slots, 0) || !take(given, BITS, bits, 0))
        return 0;
    const Py_buffer *of = given->buffers;
    given->nodes = of[NODES].len / node_size(given);
    given->trees = of[TREES].len / (Py_ssize_t)sizeof(Tree);
    given->leaves = of[LEAVES].len / size_of(given->sum) / given->width;
    given->bits = of[BITS].len / (Py_ssize_t)sizeof(uint32_t);
    if (of[NODES].len % node_size(given) || of[TREES].len % sizeof(Tree) || of[BITS].len % sizeof(uint32_t) ||
        of[LEAVES].len % (size_of(given->sum) * given->width) ||
        (given->width > 1 ? of[SLOTS].len != given->nodes * (Py_ssize_t)sizeof(int32_t) : given->leaves != given->nodes))
        return misfit("its arrays do not fit together");
    if (given->nodes > INT32_MAX || given->leaves > INT32_MAX)
        return misfit("it is too large");
    return 1;
}

#define FOREST(kind)                                                                                                   \
    Forest_##kind forest = {of[NODES].buf,                                                                             \
                            of[TREES].buf,                                                                             \
                            of[LEAVES].buf,                                                                            \
                            of[SLOTS].buf,                                                                             \
                            of[BITS].buf,                                                                              \
                            given.trees,                                                                               \
                            given.width,                                                                               \
                            given.columns,                                                                             \
                            given.outputs}

#define CHECK(kind)                                                                                                    \
    {                                                                                                                  \
        FOREST(kind);                                                                                                  \
        wrong = check_##kind(&forest, given.nodes, given.leaves, given.bits, &anything);                               \
    }

PyDoc_STRVAR(check_doc, "check(kinds, nodes, trees, leaves, slots, bits, width, columns, outputs) -> int\n\n"
                        "Whether nodes ask for more than numbers. Raises ValueError for a forest in which a walk could "
                        "leave the table.");

static PyObject *check(PyObject *self, PyObject *args)
{
    Given given = {0};
    const Py_buffer *of = given.buffers;
    const char *wrong = NULL;
    int anything = 0;
    PyObject *answer = NULL;
    if (taken(&given, args, NULL, NULL)) {
        Py_BEGIN_ALLOW_THREADS
        if (given.sum == 'f')
            CHECK(ff)
        else if (given.number == 'f')
            CHECK(fd)
        else
            CHECK(dd)
        Py_END_ALLOW_THREADS
        if (wrong)
            misfit(wrong);
        else
            answer = PyLong_FromLong(anything);
    }
    let_go(&given);
    return answer;
}

#define ADD(kind)                                                                                                      \
    {                                                                                                                  \
        FOREST(kind);                                                                                                  \
        add_##kind(&forest, of[ROWS].buf, rows, of[SUMS].buf, pairs, block, given.anything);                           \
    }

PyDoc_STRVAR(add_doc, "add(kinds, nodes, trees, leaves, slots, bits, width, columns, outputs, anything, rows, sums)\n\n"
                      "Adds to sums, shape (rows, outputs), the leaves that rows, shape (rows, columns), come to. The "
                      "forest must have passed check.");

static PyObject *add(PyObject *self, PyObject *args)
{
    Given given = {0};
    const Py_buffer *of = given.buffers;
    PyObject *from, *into, *answer = NULL;
    if (taken(&given, args, &from, &into) && take(&given, ROWS, from, 0) && take(&given, SUMS, into, 1)) {
        const Py_ssize_t row = given.columns * size_of(given.number), rows = of[ROWS].len / row;
        /* Small trees come to the rows of a block, which stay in the first cache; to large ones many rows come, so that
         * a tree is loaded seldom. */
        const Py_ssize_t tree = given.trees ? of[NODES].len / given.trees : 0;
        Py_ssize_t block = (tree > SMALL_TREE ? 4 * tree : BLOCK_BYTES) / row;
        block = block < LEAST_BLOCK ? LEAST_BLOCK : block > LARGEST_BLOCK ? LARGEST_BLOCK : block;
        void *pairs = malloc(2 * row * (rows < block ? rows : block) + 1);
        if (of[ROWS].len % row || of[SUMS].len != rows * given.outputs * size_of(given.sum)) {
            misfit("rows and sums are of other sizes");
        } else if (!pairs) {
            PyErr_NoMemory();
        } else {
            Py_BEGIN_ALLOW_THREADS
            if (given.sum == 'f')
                ADD(ff)
            else if (given.number == 'f')
                ADD(fd)
            else
                ADD(dd)
            Py_END_ALLOW_THREADS
            answer = Py_NewRef(Py_None);
        }
        free(pairs);
    }
    let_go(&given);
    return answer;
}

PyDoc_STRVAR(exp_doc, "exp(kind, values)\n\nRaises e to each value in place, by the C library's exp or expf.");

static PyObject *exponential(PyObject *self, PyObject *args)
{
    const char *kind;
    PyObject *from;
    Py_buffer values;
    if (!PyArg_ParseTuple(args, "sO", &kind, &from) || PyObject_GetBuffer(from, &values, PyBUF_CONTIG))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    if (kind[0] == 'f')
        for (Py_ssize_t k = 0; k < values.len / (Py_ssize_t)sizeof(float); k++)
            ((float *)values.buf)[k] = expf(((float *)values.buf)[k]);
    else
        for (Py_ssize_t k = 0; k < values.len / (Py_ssize_t)sizeof(double); k++)
            ((double *)values.buf)[k] = exp(((double *)values.buf)[k]);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&values);
    return Py_NewRef(Py_None);
}

PyDoc_STRVAR(log_doc, "logf(value) -> float\n\nBy the C library's logf.");

static PyObject *logarithm(PyObject *self, PyObject *value)
{
    const double given = PyFloat_AsDouble(value);
    return PyErr_Occurred() ? NULL : PyFloat_FromDouble(logf((float)given));
}

static PyMethodDef functions[] = {{"check", check, METH_VARARGS, check_doc},
                                  {"add", add, METH_VARARGS, add_doc},
                                  {"exp", exponential, METH_VARARGS, exp_doc},
                                  {"logf", logarithm, METH_O, log_doc},
                                  {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_walk", "Walks down trees.", 0, functions,
                                    NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__walk(void) { return PyModuleDef_Init(&module); }
