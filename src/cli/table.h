/*
 * Aligned columns with a header row, as kubectl prints them.
 *
 *     auto_(table_done) struct table table = TABLE("NAME", "DEVICES", "HEALTHY");
 *     table_cell(&table, resource->name);
 *     table_printf(&table, "%zu", resource->n_devices);
 *     table_styled(&table, STYLE_BAD, "%zu", n_healthy);
 *     r = table_print(&table, stdout, &err);
 *
 * Cells fill rows from left to right; the row after the last column starts by itself. Texts are
 * copied. Adding never fails visibly: a table that ran out of memory or room says so in
 * table_print. Columns are as wide as their widest cell on a terminal: UTF-8 is counted in
 * characters, wide (East Asian) ones as two and combining ones as none. Control characters are
 * printed as `?`, so that a name from outside cannot repaint the terminal.
 */
#pragma once

#include <stdio.h>

#include "base/arena.h"
#include "base/base.h"
#include "base/err.h"
#include "cli/output.h"

enum {
    TABLE_MAX_COLUMNS = 16,
    TABLE_MAX_BYTES = 64 << 20, /* 131072 devices in seven columns fit four times over */
};

struct table_cell {
    const char *text;
    enum output_style style;
};

struct table {
    struct arena arena; /* owns texts and cells */
    size_t n_columns;
    const char *headers[TABLE_MAX_COLUMNS]; /* borrowed */
    size_t n_cells;
    struct table_cell *cells;
    bool failed;
};

#define TABLE(...)                                                                                 \
    (struct table)                                                                                 \
    {                                                                                              \
        .arena = ARENA_MAX(TABLE_MAX_BYTES),                                                       \
        .n_columns = sizeof((const char *[]){ __VA_ARGS__ }) / sizeof(char *),                     \
        .headers = { __VA_ARGS__ },                                                                \
    }

void table_done(struct table *table);

/* An empty or missing text is shown as `-`. */
void table_cell(struct table *table, const char *text);
PRINTF(2, 3) void table_printf(struct table *table, const char *format, ...);
PRINTF(3, 4)
void table_styled(struct table *table, enum output_style style, const char *format, ...);

/* The header, then the rows; a table without rows prints only its header. -ENOMEM for a table
 * that could not hold its cells, -EIO. */
[[nodiscard]] int table_print(const struct table *table, FILE *to, struct err *err);

/* How many terminal columns a text takes. */
size_t table_text_width(const char *text);
