/* How rows walk down trees. Included once for each pair of NUMBER, which thresholds and cells are, and SUM, which
 * leaves and sums are; NAME(x) makes a name of its own for each pair.
 *
 * LANES walks go on side by side, so that a processor need not wait for the memory of one: of as many rows down one
 * tree, or, for few rows, of one row down as many trees. A leaf leads to itself, so that a walk may be taken further
 * than it goes, without a branch that is guessed wrong. Sums are always in the order of the trees.
 */

typedef struct {
    union {
        NUMBER at;    /* a row goes left where its cell is <= at */
        uint32_t set; /* or where its category is in the set that begins here */
    };
    uint32_t what; /* the column, and flags */
    int32_t left;  /* right is the next one */
} NAME(Node);

typedef struct {
    const NAME(Node) * nodes;
    const Tree *trees;
    const SUM *leaves;
    const int32_t *slots;
    const uint32_t *bits;
    Py_ssize_t count, width, columns, outputs;
} NAME(Forest);

/* care: what the rows or the nodes ask for; constant at each call, so that the compiler leaves out what is not asked.
 * PAIRS: each cell is there twice, for nodes that send a missing one right, and left. */
INLINE int NAME(right)(const NAME(Node) * node, const NUMBER *row, const uint32_t *bits, int care)
{
    if (care == PAIRS)
        return !(row[(node->what << 1 | node->what >> MISSING_LEFT_BIT) & (COLUMN << 1 | 1)] <= node->at);
    const NUMBER cell = row[node->what & COLUMN];
    if (care == NUMBERS)
        return !(cell <= node->at);
    if (cell != cell || (node->what & ZERO_IS_MISSING && cell >= -NO_NUMBER && cell <= NO_NUMBER))
        return !(node->what & MISSING_LEFT);
    if (!(node->what & CATEGORIES))
        return !(cell <= node->at);
    const uint32_t *set = bits + node->set;
    const int member = cell < 4294967296.0 && (node->what & TOWARD_ZERO ? cell > -1 : cell >= 0);
    const uint32_t category = member && cell > 0 ? (uint32_t)cell : 0;
    if (!member || category / 32 >= set[0])
        return !(node->what & OTHERS_LEFT);
    return !(set[1 + category / 32] >> (category % 32) & 1);
}

INLINE int32_t NAME(step)(const NAME(Forest) * forest, int32_t at, const NUMBER *row, int care)
{
    const NAME(Node) *node = forest->nodes + at;
    return node->left + NAME(right)(node, row, forest->bits, care);
}

/* One step of all walks. apart: how far their rows are from each other. Whether one of them moved. */
INLINE int32_t NAME(steps)(const NAME(Forest) * forest, int32_t *at, const NUMBER *row, Py_ssize_t apart, int care)
{
    int32_t moved = 0;
    for (int k = 0; k < LANES; k++) {
        const int32_t next = NAME(step)(forest, at[k], row + k * apart, care);
        moved |= next ^ at[k];
        at[k] = next;
    }
    return moved;
}

INLINE void NAME(gain)(const NAME(Forest) * forest, const Tree *tree, int32_t leaf, SUM *sums)
{
    sums += tree->output;
    if (forest->width == 1) {
        *sums += forest->leaves[leaf];
        return;
    }
    const SUM *values = forest->leaves + (size_t)forest->slots[leaf] * forest->width;
    for (Py_ssize_t k = 0; k < forest->width; k++)
        sums[k] += values[k];
}

INLINE void NAME(few)(const NAME(Forest) * forest, const NUMBER *row, Py_ssize_t stride, Py_ssize_t count, SUM *sums,
                      int care)
{
    for (Py_ssize_t r = 0; r < count; r++, row += stride, sums += forest->outputs) {
        Py_ssize_t t = 0;
        for (; t + LANES <= forest->count; t += LANES) {
            int32_t at[LANES];
            for (int k = 0; k < LANES; k++)
                at[k] = forest->trees[t + k].root;
            while (NAME(steps)(forest, at, row, 0, care))
                ;
            for (int k = 0; k < LANES; k++)
                NAME(gain)(forest, forest->trees + t + k, at[k], sums);
        }
        for (; t < forest->count; t++) {
            int32_t at = forest->trees[t].root, next;
            while ((next = NAME(step)(forest, at, row, care)) != at)
                at = next;
            NAME(gain)(forest, forest->trees + t, at, sums);
        }
    }
}

INLINE void NAME(many)(const NAME(Forest) * forest, const NUMBER *rows, Py_ssize_t stride, Py_ssize_t count, SUM *sums,
                       int care)
{
    const Py_ssize_t even = count - count % LANES;
    for (Py_ssize_t t = 0; t < forest->count; t++) {
        const Tree *tree = forest->trees + t;
        for (Py_ssize_t r = 0; r < even; r += LANES) {
            const NUMBER *row = rows + r * stride;
            int32_t at[LANES];
            for (int k = 0; k < LANES; k++)
                at[k] = tree->root;
            for (int32_t depth = 0; depth < tree->steps; depth++)
                NAME(steps)(forest, at, row, stride, care);
            while (tree->more && NAME(steps)(forest, at, row, stride, care))
                ;
            for (int k = 0; k < LANES; k++)
                NAME(gain)(forest, tree, at[k], sums + (r + k) * forest->outputs);
        }
    }
    NAME(few)(forest, rows + even * stride, stride, count - even, sums + even * forest->outputs, care);
}

/* Each cell twice, the second time with a missing one below all numbers. Whether one is missing. */
static int NAME(paired)(const NUMBER *cells, Py_ssize_t count, NUMBER *pairs)
{
    int missing = 0;
    for (Py_ssize_t k = 0; k < count; k++) {
        missing |= cells[k] != cells[k];
        pairs[2 * k] = cells[k];
        pairs[2 * k + 1] = cells[k] != cells[k] ? -(NUMBER)INFINITY : cells[k];
    }
    return missing;
}

/* pairs: room for rows in blocks of so many, each cell twice. */
static void NAME(add)(const NAME(Forest) * forest, const NUMBER *rows, Py_ssize_t count, SUM *sums, NUMBER *pairs,
                      Py_ssize_t block, int anything)
{
    for (; count > 0; count -= block) {
        const Py_ssize_t here = count < block ? count : block, columns = forest->columns;
        if (anything)
            NAME(many)(forest, rows, columns, here, sums, ANYTHING);
        else if (NAME(paired)(rows, here * columns, pairs))
            NAME(many)(forest, pairs, 2 * columns, here, sums, PAIRS);
        else
            NAME(many)(forest, rows, columns, here, sums, NUMBERS);
        rows += here * columns;
        sums += here * forest->outputs;
    }
}

/* Whether every walk ends at a leaf that is there: children come after their parents, and leaves lead to themselves
 * whatever a row holds. NULL, or what is wrong. anything: whether nodes ask for more than numbers and missing ones. */
static const char *NAME(check)(const NAME(Forest) * forest, Py_ssize_t nodes, Py_ssize_t leaves, Py_ssize_t bits,
                               int *anything)
{
    for (Py_ssize_t i = 0; i < nodes; i++) {
        const NAME(Node) *node = forest->nodes + i;
        const int special = (node->what & (CATEGORIES | ZERO_IS_MISSING)) != 0;
        if ((node->what & COLUMN) >= (uint32_t)forest->columns)
            return "a node looks at a column that is not there";
        if (forest->width > 1 && (forest->slots[i] < 0 || forest->slots[i] >= leaves))
            return "a leaf's values are not there";
        if (node->left == i ? special || !(node->what & MISSING_LEFT) || !(node->at == (NUMBER)INFINITY)
                            : node->left < i || node->left >= nodes - 1)
            return "a node leads to where it must not";
        if (node->what & CATEGORIES && (node->set >= bits || forest->bits[node->set] >= bits - node->set))
            return "a node's set of categories is not there";
        *anything |= special;
    }
    for (Py_ssize_t t = 0; t < forest->count; t++) {
        const Tree *tree = forest->trees + t;
        if (tree->root < 0 || tree->root >= nodes)
            return "a tree's root is not there";
        if (tree->output < 0 || tree->output > forest->outputs - forest->width)
            return "a tree counts for an output that is not there";
        if (tree->steps > nodes)
            return "a tree is deeper than it can be";
    }
    return NULL;
}

#undef NUMBER
#undef SUM
#undef NAME
