#include "codec/yaml.h"

#include <errno.h>
#include <libfyaml.h>

#include "base/buf.h"
#include "codec/yaml_build.h"
#include "codec/yaml_screen.h"

static const struct yaml_limits defaults = {
    .bytes = MIB(1),
    .nodes = 100000,
    .documents = 1000,
    .depth = 100,
};

static struct yaml_limits with_defaults(const struct yaml_limits *given)
{
    struct yaml_limits limits = given ? *given : defaults;

    if (!limits.bytes)
        limits.bytes = defaults.bytes;
    if (!limits.nodes)
        limits.nodes = defaults.nodes;
    if (!limits.documents)
        limits.documents = defaults.documents;
    if (!limits.depth)
        limits.depth = defaults.depth;
    return limits;
}

/* ---- libfyaml ---- */

struct reader {
    struct fy_diag *diag;     /* owned */
    struct fy_parser *parser; /* owned */
    struct buf text;          /* what libfyaml reads: the whole text and a line break at its end */
    struct buf scalar;        /* of the event at hand */
    struct yaml_builder builder;
    size_t end;       /* how far the events have come, in bytes of the text */
    bool break_added; /* the text did not end with a line break of its own */
};

static void reader_done(struct reader *reader)
{
    yaml_build_done(&reader->builder);
    if (reader->parser)
        fy_parser_destroy(reader->parser);
    if (reader->diag)
        fy_diag_destroy(reader->diag);
    buf_done(&reader->text);
    buf_done(&reader->scalar);
}

static int no_memory(struct reader *reader)
{
    return yaml_fault_set(reader->builder.fault, (struct place){}, ENOMEM, "out of memory");
}

/* libfyaml writes beyond a buffer when the text ends behind a backslash, so it gets a copy that
 * ends with a line break. */
static int copy_text(struct reader *reader, struct span text)
{
    reader->break_added = text.len > 0 && !strchr("\r\n", text.ptr[text.len - 1]);
    reader->text = BUF_MAX(text.len + 1);
    reader->scalar = BUF_MAX(2 * text.len); /* \L stands for three bytes */
    buf_add(&reader->text, text.ptr, text.len);
    if (reader->break_added)
        buf_add_char(&reader->text, '\n');
    return reader->text.failed ? no_memory(reader) : 0;
}

static int start_parser(struct reader *reader)
{
    struct fy_diag_cfg diag_cfg;

    fy_diag_cfg_default(&diag_cfg);
    diag_cfg.fp = NULL; /* its complaints are collected, and never reach stderr */
    diag_cfg.level = FYET_ERROR;
    reader->diag = fy_diag_create(&diag_cfg);
    if (!reader->diag)
        return no_memory(reader);
    fy_diag_set_collect_errors(reader->diag, true);

    const struct fy_parse_cfg cfg = {
        /* The grammar of 1.2 only adds to that of 1.1, and is the better tested one; the words of
         * 1.1 are our own affair. */
        .flags = FYPCF_QUIET | FYPCF_COLLECT_DIAG | FYPCF_DEFAULT_VERSION_1_2 | FYPCF_JSON_NONE |
                 FYPCF_SLOPPY_FLOW_INDENTATION,
        .diag = reader->diag,
    };
    reader->parser = fy_parser_create(&cfg);
    if (!reader->parser ||
        fy_parser_set_string(reader->parser, buf_text(&reader->text), reader->text.len) < 0)
        return no_memory(reader);
    return 0;
}

static int reader_start(struct reader *reader, struct span text)
{
    int r = yaml_screen(&text, &reader->builder.limits, reader->builder.fault);

    if (r == 0)
        r = copy_text(reader, text);
    if (r == 0)
        r = start_parser(reader);
    return r < 0 ? r : yaml_build_start(&reader->builder);
}

/* Our words for those of libfyaml that leave the reader alone with the error. */
static const char *explain(const char *message)
{
    static const char *const sentences[][2] = {
        { "tab character may not be used as indentation", "a tab cannot indent; use spaces" },
        { "invalid tab as indendation in a mapping", "a tab cannot indent; use spaces" },
        { "invalid tab used as indentation", "a tab cannot indent; use spaces" },
        { "invalid indentation in mapping", "this is indented unlike the keys above it" },
        { "wrong indendation in sequence while in mapping",
          "this \"-\" is indented unlike those above it" },
        { "invalid multiline plain key",
          "the text from here runs on into a line with a colon; either a \": \" is missing here or "
          "that line is indented too far" },
        { "invalid nested block mapping on the same line",
          "a second \": \" on one line; quote the value if it holds a colon" },
        { "invalid scalar at the end of block sequence",
          "the list above ends here; indent this, or begin it with \"- \"" },
        { "did not find expected key", "a key is expected here" },
        /* libfyaml 0.7.12 wants a value behind each dash of a list that is not indented. */
        { "did not find expected node content",
          "a value is missing; where nothing is meant, write null" },
        { "double-quoted scalar without closing quote", "a text that begins with \" never ends" },
        { "single-quoted scalar without closing quote", "a text that begins with ' never ends" },
        { "flow sequence without a closing bracket", "a list that begins with [ has no ]" },
        { "flow mapping without a closing brace", "a map that begins with { has no }" },
        { "missing comma in flow mapping", "a comma or a } is missing" },
        { "missing comma in flow sequence", "a comma or a ] is missing" },
        { "flow sequence with invalid extra closing bracket", "a ] without its [" },
        { "flow mapping with invalid extra closing brace", "a } without its {" },
    };

    for (size_t i = 0; i < ARRAY_LEN(sentences); i++)
        if (text_equal(message, sentences[i][0]))
            return sentences[i][1];
    return message;
}

static int syntax_fault(struct reader *reader)
{
    struct yaml_fault *fault = reader->builder.fault;
    struct fy_diag_error *error;
    void *position = NULL;

    while ((error = fy_diag_errors_iterate(reader->diag, &position))) {
        if (error->type < FYET_ERROR || !error->msg)
            continue;
        struct place place = { (unsigned)MAX(error->line, 0), (unsigned)MAX(error->column, 0) };
        return yaml_fault_set(fault, place, EINVAL, "%s", explain(error->msg));
    }
    return yaml_fault_set(fault, reader->builder.last, EINVAL, "not YAML from here on");
}

/* ---- events ---- */

static struct span token_text(struct fy_token *token)
{
    struct span text = {};

    if (token)
        text.ptr = fy_token_get_text(token, &text.len);
    return text;
}

static enum fy_scalar_style style_of(struct fy_event *event)
{
    struct fy_token *token = fy_event_get_token(event);

    return event->type == FYET_SCALAR && token ? fy_scalar_token_get_style(token) : FYSS_PLAIN;
}

static bool is_quoted(enum fy_scalar_style style)
{
    return style == FYSS_SINGLE_QUOTED || style == FYSS_DOUBLE_QUOTED;
}

static void note_end(struct reader *reader, struct fy_event *event)
{
    const struct fy_mark *mark = fy_event_end_mark(event);

    if (mark) /* a quoted scalar ends before its quote */
        reader->end = MAX(reader->end, mark->input_pos + is_quoted(style_of(event)));
}

static struct place place_of(struct fy_event *event)
{
    const struct fy_mark *mark = fy_event_start_mark(event);
    /* The mark is behind an opening quote, and behind the * of an alias. */
    bool behind = event->type == FYET_ALIAS || is_quoted(style_of(event));

    if (!mark)
        return (struct place){};
    return (struct place){ (unsigned)mark->line + 1, (unsigned)mark->column + !behind };
}

/* Piece by piece: fy_token_get_text counts first, and of many quotes in a row, of an empty block at
 * the end of the text and of some line breaks it counts too few or too many bytes. */
static void read_pieces(struct buf *scalar, struct fy_token_iter *pieces)
{
    const struct fy_iter_chunk *piece = NULL;
    int failed = 0;

    while ((piece = fy_token_iter_chunk_next(pieces, piece, &failed)))
        buf_add(scalar, piece->str, piece->len);
    scalar->failed |= failed != 0;
}

static size_t count_blanks(struct span text)
{
    size_t n = 0;

    while (n < text.len && (text.ptr[n] == ' ' || text.ptr[n] == '\t'))
        n++;
    return n;
}

/* How many bytes the line break at the front of the text takes, 0 when there is none. */
static size_t break_length(struct span text)
{
    if (text.len == 0 || (text.ptr[0] != '\n' && text.ptr[0] != '\r'))
        return 0;
    return text.len > 1 && text.ptr[0] == '\r' && text.ptr[1] == '\n' ? 2 : 1;
}

/* Takes breaks and the blanks behind them off: one break is a space, more are one less. */
static void fold_breaks(struct buf *scalar, struct span *raw)
{
    size_t n_breaks = 0, n;

    while ((n = break_length(*raw)) > 0) {
        n_breaks++;
        n += count_blanks((struct span){ raw->ptr + n, raw->len - n });
        *raw = (struct span){ raw->ptr + n, raw->len - n };
    }
    if (n_breaks == 1)
        buf_add_char(scalar, ' ');
    while (n_breaks-- > 1)
        buf_add_char(scalar, '\n');
}

/* Two single quotes stand for one. libfyaml takes every second pair in a row for two, so what
 * stands between the outer quotes is read here. */
static void read_single_quoted(struct buf *scalar, struct span raw)
{
    while (raw.len > 0) {
        size_t n_blanks = count_blanks(raw);
        struct span behind = { raw.ptr + n_blanks, raw.len - n_blanks };
        if (break_length(behind) > 0) {
            raw = behind;
            fold_breaks(scalar, &raw);
            continue;
        }
        size_t n = raw.ptr[0] == '\'' ? MIN(raw.len, (size_t)2) : 1;
        buf_add_char(scalar, raw.ptr[0]);
        raw = (struct span){ raw.ptr + n, raw.len - n };
    }
}

/* What stands between the quotes of a single-quoted scalar; a NULL pointer when its marks, which
 * are behind the first quote and before the last, are not where they should be. */
static struct span between_quotes(struct reader *reader, struct fy_event *event)
{
    const struct fy_mark *start = fy_event_start_mark(event), *end = fy_event_end_mark(event);
    struct span text = buf_span(&reader->text);

    if (!start || !end || start->input_pos == 0 || start->input_pos > end->input_pos ||
        end->input_pos >= text.len || text.ptr[start->input_pos - 1] != '\'' ||
        text.ptr[end->input_pos] != '\'')
        return (struct span){};
    return (struct span){ text.ptr + start->input_pos, end->input_pos - start->input_pos };
}

static int read_scalar(struct reader *reader, struct fy_event *event)
{
    struct span quoted =
        style_of(event) == FYSS_SINGLE_QUOTED ? between_quotes(reader, event) : (struct span){};

    buf_reset(&reader->scalar);
    if (quoted.ptr) {
        read_single_quoted(&reader->scalar, quoted);
    } else {
        struct fy_token_iter *pieces = fy_token_iter_create(fy_event_get_token(event));
        if (!pieces)
            return no_memory(reader);
        read_pieces(&reader->scalar, pieces);
        fy_token_iter_destroy(pieces);
    }
    return reader->scalar.failed ? no_memory(reader) : 0;
}

/* A block that runs to the end of the text does not own the line break that we added there. */
static void drop_added_break(struct reader *reader, struct fy_event *event)
{
    enum fy_scalar_style style = style_of(event);
    struct buf *scalar = &reader->scalar;

    if ((style == FYSS_LITERAL || style == FYSS_FOLDED) && reader->break_added &&
        reader->end + 1 >= reader->text.len && scalar->len > 0 &&
        scalar->ptr[scalar->len - 1] == '\n')
        scalar->ptr[--scalar->len] = '\0';
}

static int take_scalar(struct reader *reader, struct fy_event *event, struct yaml_node *node)
{
    struct fy_token *token = fy_event_get_token(event);

    if (token) {
        int r = read_scalar(reader, event);
        if (r < 0)
            return r;
        drop_added_break(reader, event);
        node->text = buf_span(&reader->scalar);
    }
    node->plain = style_of(event) == FYSS_PLAIN;
    return yaml_build_scalar(&reader->builder, node);
}

static int take_event(struct reader *reader, struct fy_event *event)
{
    struct yaml_node node = {
        .place = place_of(event),
        .text = SPAN(""),
        .anchor = token_text(fy_event_get_anchor_token(event)),
        .tag = token_text(fy_event_get_tag_token(event)),
    };

    note_end(reader, event);
    switch (event->type) {
    case FYET_SCALAR:
        return take_scalar(reader, event, &node);
    case FYET_ALIAS:
        node.text = token_text(fy_event_get_token(event));
        return yaml_build_alias(&reader->builder, &node);
    case FYET_SEQUENCE_START:
        return yaml_build_open(&reader->builder, VALUE_LIST, &node);
    case FYET_MAPPING_START:
        return yaml_build_open(&reader->builder, VALUE_MAP, &node);
    case FYET_SEQUENCE_END:
    case FYET_MAPPING_END:
        return yaml_build_close(&reader->builder);
    case FYET_DOCUMENT_END:
        if (!event->document_end.implicit)
            return 0;
        return yaml_screen_rest(buf_span(&reader->text), reader->end, reader->builder.fault);
    default:
        return 0;
    }
}

/* Reads one document: 1, or 0 when there is none any more. */
static int read_document(struct reader *reader, struct value **ret)
{
    struct fy_event *event;
    enum fy_event_type type;

    do {
        event = fy_parser_parse(reader->parser);
        if (!event)
            return syntax_fault(reader);
        type = event->type;
        int r = take_event(reader, event);
        fy_parser_event_free(reader->parser, event);
        if (r < 0)
            return r;
        if (type == FYET_STREAM_END)
            return 0;
    } while (type != FYET_DOCUMENT_END);
    int r = yaml_build_finish(&reader->builder, ret);
    return r < 0 ? r : 1;
}

/* ---- the doors ---- */

int yaml_read(struct span text, const struct yaml_limits *limits, struct arena *arena,
              struct value **ret, struct yaml_fault *fault)
{
    auto_(reader_done) struct reader reader = {
        .builder = { .arena = arena, .limits = with_defaults(limits), .fault = fault },
    };
    int r = reader_start(&reader, text);

    if (r < 0)
        return r;
    r = read_document(&reader, ret);
    return r == 0 ? yaml_build_finish(&reader.builder, ret) : MIN(r, 0);
}

static int fault_to_err(struct err *err, int r, const char *name, const struct yaml_fault *fault)
{
    if (fault->place.line == 0)
        return err_set(err, -r, "%s: %s", name, fault->text);
    return err_set(err, -r, "%s:%u:%u: %s", name, fault->place.line, fault->place.column,
                   fault->text);
}

int yaml_parse(struct span text, const char *name, const struct yaml_limits *limits,
               struct arena *arena, struct value **ret, struct err *err)
{
    struct yaml_fault fault = {};
    int r = yaml_read(text, limits, arena, ret, &fault);

    return r < 0 ? fault_to_err(err, r, name, &fault) : 0;
}

static int read_all(struct reader *reader, struct span text, struct value ***ret, size_t *ret_n)
{
    struct yaml_builder *builder = &reader->builder;
    struct value **documents = NULL, *document = NULL;
    size_t n = 0;
    int r = reader_start(reader, text);

    while (r == 0 && (r = read_document(reader, &document)) > 0) {
        if (n == builder->limits.documents)
            return yaml_fault_set(builder->fault, document->place, EFBIG, "more than %zu documents",
                                  n);
        struct value **item = arena_push(builder->arena, &documents, &n);
        if (!item)
            return yaml_fault_set(builder->fault, (struct place){}, ENOMEM, "out of memory");
        *item = document;
        r = 0;
    }
    if (r < 0)
        return r;
    *ret = documents;
    *ret_n = n;
    return 0;
}

int yaml_read_all(struct span text, const struct yaml_limits *limits, struct arena *arena,
                  struct value ***ret, size_t *ret_n, struct yaml_fault *fault)
{
    auto_(reader_done) struct reader reader = {
        .builder = { .arena = arena, .limits = with_defaults(limits), .fault = fault },
    };

    return read_all(&reader, text, ret, ret_n);
}

int yaml_parse_all(struct span text, const char *name, const struct yaml_limits *limits,
                   struct arena *arena, struct value ***ret, size_t *ret_n, struct err *err)
{
    struct yaml_fault fault = {};
    int r = yaml_read_all(text, limits, arena, ret, ret_n, &fault);

    return r < 0 ? fault_to_err(err, r, name, &fault) : 0;
}
