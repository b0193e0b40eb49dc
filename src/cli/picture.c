#include "cli/picture.h"

#include <string.h>

#include "cli/output.h"
#include "cli/table.h"

enum { CELL_MIN = 9, CELLS_MAX = 512 };

struct strokes {
    const char *left, *middle, *right; /* of a horizontal line */
};

static const struct strokes box_top = { "┌", "┬", "┐" }, box_bottom = { "└", "┴", "┘" };
static const struct strokes ascii = { "+", "+", "+" };

/* One line of cells that fits the terminal: indices [from, to) and each cell's inner width. */
struct row {
    size_t from, to;
    unsigned widths[CELLS_MAX];
};

static void repeat(FILE *to, const char *text, unsigned n)
{
    while (n-- > 0)
        fputs(text, to);
}

enum { TAIL = 5 }; /* of a generated pod name: what tells replicas apart */

/* A text cut to the width and padded. What is cut out is its middle: the end of a pod's name tells
 * it from its siblings. Names are ASCII (the API server sees to that), so bytes are columns. */
static void print_fitted(FILE *to, const char *text, unsigned width, bool boxes)
{
    size_t columns = table_text_width(text);
    const char *cut = boxes ? "…" : "~";

    if (columns <= width) {
        fputs(text, to);
        repeat(to, " ", width - (unsigned)columns);
    } else if (width > 2 * TAIL) {
        fprintf(to, "%.*s%s%s", (int)width - 1 - TAIL, text, cut, text + strlen(text) - TAIL);
    } else if (width > TAIL) {
        fprintf(to, "%s%s", cut, text + strlen(text) - (width - 1));
    } else {
        fprintf(to, "%.*s", (int)width, text);
    }
}

static void print_rule(FILE *to, const struct row *row, const struct strokes *boxes,
                       const struct picture_style *style)
{
    const struct strokes *s = style->boxes ? boxes : &ascii;

    fputs(s->left, to);
    for (size_t i = row->from; i < row->to; i++) {
        repeat(to, style->boxes ? "─" : "-", row->widths[i - row->from] + 2);
        fputs(i + 1 < row->to ? s->middle : s->right, to);
    }
    fputc('\n', to);
}

static enum output_style style_of(const struct picture_cell *cell, bool holder_line)
{
    if (!cell->usable)
        return STYLE_DIM;
    if (!cell->healthy)
        return STYLE_BAD;
    if (holder_line)
        return cell->holder ? STYLE_GOOD : STYLE_DIM;
    return STYLE_BOLD;
}

static void print_texts(FILE *to, const struct row *row, const struct picture_cell *cells,
                        bool holder_line, const struct picture_style *style)
{
    const char *bar = style->boxes ? "│" : "|";

    fputs(bar, to);
    for (size_t i = row->from; i < row->to; i++) {
        const char *text = holder_line ? (cells[i].holder ? cells[i].holder : "-") : cells[i].title;
        enum output_style kind = style_of(&cells[i], holder_line);

        if (!cells[i].usable)
            text = "";
        fprintf(to, " %s", output_style(style->colour, kind));
        print_fitted(to, text, row->widths[i - row->from], style->boxes);
        fprintf(to, "%s %s", output_unstyle(style->colour, kind), bar);
    }
    fputc('\n', to);
}

/* The cells with the gaps between them filled by unusable ones. */
static size_t fill_gaps(const struct picture_gpu *gpu, struct picture_cell *cells)
{
    uint32_t at = 0;
    size_t n = 0;

    for (size_t i = 0; i < gpu->n_cells && n + 2 < CELLS_MAX; i++) {
        if (gpu->cells[i].start > at)
            cells[n++] = (struct picture_cell){
                .start = at, .span = gpu->cells[i].start - at, .title = "", .usable = false
            };
        cells[n++] = gpu->cells[i];
        at = gpu->cells[i].start + gpu->cells[i].span;
    }
    if (at < gpu->units && n < CELLS_MAX)
        cells[n++] = (struct picture_cell){ .start = at, .span = gpu->units - at, .title = "" };
    return n;
}

/* As many cells as fit: a unit is at least CELL_MIN columns wide, and a cell of several units also
 * gets the borders between them, so that equal slices of different rows line up. */
static void lay_out(const struct picture_cell *cells, size_t n, size_t from, unsigned unit,
                    unsigned width, struct row *row)
{
    unsigned used = 1;

    row->from = row->to = from;
    while (row->to < n) {
        unsigned inner = cells[row->to].span * (unit + 3) - 3;

        if (row->to > from && used + inner + 3 > width)
            break;
        row->widths[row->to - from] = inner;
        used += inner + 3;
        row->to++;
    }
}

void picture_print(FILE *to, const struct picture_gpu *gpu, const struct picture_style *style)
{
    struct picture_cell cells[CELLS_MAX];
    size_t n = fill_gaps(gpu, cells);
    unsigned width = MAX(style->width, 40u);
    unsigned unit = gpu->units ? (width - 1) / gpu->units : width;
    struct row row = {};

    unit = unit > CELL_MIN + 3 ? unit - 3 : CELL_MIN;
    unit = MIN(unit, 40u);
    fprintf(to, "%s%s%s\n", output_style(style->colour, STYLE_BOLD), gpu->heading,
            output_unstyle(style->colour, STYLE_BOLD));
    for (size_t from = 0; from < n; from = row.to) {
        lay_out(cells, n, from, unit, width, &row);
        print_rule(to, &row, &box_top, style);
        print_texts(to, &row, cells, false, style);
        print_texts(to, &row, cells, true, style);
        print_rule(to, &row, &box_bottom, style);
    }
}
