#include "cli/table.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

enum { GAP = 3, CELL_MAX_BYTES = 4096 };

void table_done(struct table *table)
{
    arena_done(&table->arena);
}

/* ---- width ---- */

/* Blocks whose characters take two columns on a terminal, or none; in order. Coarse on purpose:
 * names of GPUs and pods hardly ever leave ASCII. */
static const struct {
    uint32_t first, last;
    unsigned width;
} blocks[] = {
    { 0x0300, 0x036f, 0 },                                                   /* combining accents */
    { 0x1100, 0x115f, 2 },                                                   /* Hangul jamo */
    { 0x1ab0, 0x1aff, 0 },   { 0x1dc0, 0x1dff, 0 },   { 0x200b, 0x200f, 0 }, /* zero width */
    { 0x20d0, 0x20ff, 0 },   { 0x2e80, 0x303e, 2 },                          /* CJK */
    { 0x3041, 0xa4cf, 2 },   { 0xac00, 0xd7a3, 2 },   { 0xf900, 0xfaff, 2 }, { 0xfe00, 0xfe0f, 0 },
    { 0xfe20, 0xfe2f, 0 },   { 0xfe30, 0xfe4f, 2 },   { 0xfeff, 0xfeff, 0 }, { 0xff00, 0xff60, 2 },
    { 0xffe0, 0xffe6, 2 },   { 0x1f300, 0x1f64f, 2 }, /* pictures */
    { 0x1f900, 0x1f9ff, 2 }, { 0x20000, 0x3fffd, 2 },
};

static unsigned width_of(uint32_t character)
{
    for (size_t i = 0; i < ARRAY_LEN(blocks); i++)
        if (character >= blocks[i].first && character <= blocks[i].last)
            return blocks[i].width;
    return 1;
}

/* The character that `len` bytes of valid UTF-8 stand for. */
static uint32_t decode(const char *bytes, size_t len)
{
    uint32_t character = (unsigned char)bytes[0];

    if (len > 1)
        character &= 0x7fu >> len;
    for (size_t i = 1; i < len; i++)
        character = character << 6 | ((unsigned char)bytes[i] & 0x3f);
    return character;
}

size_t table_text_width(const char *text)
{
    struct span rest = span_of(text);
    size_t width = 0;

    while (rest.len > 0) {
        size_t n = text_utf8_char(rest);
        width += n > 0 ? width_of(decode(rest.ptr, n)) : 1; /* a byte that is none is a `?` */
        n = MAX(n, (size_t)1);
        rest = (struct span){ .ptr = rest.ptr + n, .len = rest.len - n };
    }
    return width;
}

/* ---- cells ---- */

static void add_cell(struct table *table, enum output_style style, const char *text)
{
    struct table_cell *cell = arena_push(&table->arena, &table->cells, &table->n_cells);
    char *copy = cell ? arena_strdup(&table->arena, text && *text ? text : "-") : NULL;

    if (!copy) {
        table->failed = true;
        return;
    }
    text_make_harmless(copy);
    *cell = (struct table_cell){ .text = copy, .style = style };
}

void table_cell(struct table *table, const char *text)
{
    add_cell(table, STYLE_PLAIN, text);
}

PRINTF(3, 0)
static void add_formatted(struct table *table, enum output_style style, const char *format,
                          va_list args)
{
    char text[CELL_MAX_BYTES];

    vsnprintf(text, sizeof(text), format, args);
    add_cell(table, style, text);
}

void table_printf(struct table *table, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    add_formatted(table, STYLE_PLAIN, format, args);
    va_end(args);
}

void table_styled(struct table *table, enum output_style style, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    add_formatted(table, style, format, args);
    va_end(args);
}

/* ---- printing ---- */

static void measure(const struct table *table, size_t widths[static TABLE_MAX_COLUMNS])
{
    for (size_t i = 0; i < table->n_columns; i++)
        widths[i] = table_text_width(table->headers[i]);
    for (size_t i = 0; i < table->n_cells; i++) {
        size_t width = table_text_width(table->cells[i].text), column = i % table->n_columns;
        widths[column] = MAX(widths[column], width);
    }
}

/* The last column of a row is not padded, so that no line ends in blanks. */
static void print_cell(FILE *to, const char *text, enum output_style style, bool colour,
                       size_t width, bool last)
{
    fprintf(to, "%s%s%s", output_style(colour, style), text, output_unstyle(colour, style));
    if (last)
        fputc('\n', to);
    else
        fprintf(to, "%*s", (int)(width - table_text_width(text) + GAP), "");
}

int table_print(const struct table *table, FILE *to, struct err *err)
{
    size_t widths[TABLE_MAX_COLUMNS], n = table->n_columns;
    bool colour = output_colour(to);

    if (table->failed)
        return err_wrap(err, err_no_memory(err), "cannot lay out the table");
    measure(table, widths);
    for (size_t i = 0; i < n; i++)
        print_cell(to, table->headers[i], STYLE_BOLD, colour, widths[i], i == n - 1);
    for (size_t i = 0; i < table->n_cells; i++) {
        bool last = i % n == n - 1 || i == table->n_cells - 1;
        print_cell(to, table->cells[i].text, table->cells[i].style, colour, widths[i % n], last);
    }
    if (fflush(to) != 0)
        return err_set(err, errno, "cannot print the table: %s", strerror(errno));
    return 0;
}
