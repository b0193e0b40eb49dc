#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/text.h"

static void err_set_gives_code_and_sentence(void **state)
{
    struct err err = {};

    assert_int_equal(err_set(&err, EINVAL, "gpu %d is odd", 3), -EINVAL);
    assert_int_equal(err.code, EINVAL);
    assert_string_equal(err.text, "gpu 3 is odd");
}

static void err_wrap_puts_the_outer_context_first(void **state)
{
    struct err err = {};
    int r = err_set(&err, EBUSY, "process 3121 still holds it");

    r = err_wrap(&err, r, "cannot remove GPU instance %d", 4);
    r = err_wrap(&err, r, "step 2 of 3");
    assert_int_equal(r, -EBUSY);
    assert_int_equal(err.code, EBUSY);
    assert_string_equal(err.text,
                        "step 2 of 3: cannot remove GPU instance 4: process 3121 still holds it");
}

static void what_a_terminal_would_obey_is_a_question_mark(void **state)
{
    struct err err = {};

    err_set(&err, EINVAL, "%s",
            "a\033[2J\nb\x7f\xc2\x9b"
            "c\xff Ж\xe2\x80\xae\xe2\x81\xa6…");
    assert_string_equal(err.text, "a?[2J?b??c? Ж??…");
    err_wrap(&err, -EINVAL, "%s", "\r");
    assert_string_equal(err.text, "?: a?[2J?b??c? Ж??…");
}

static void err_may_be_null(void **state)
{
    assert_int_equal(err_set(NULL, EINVAL, "nobody listens"), -EINVAL);
    assert_int_equal(err_wrap(NULL, -EIO, "nobody listens"), -EIO);
    assert_int_equal(err_no_memory(NULL), -ENOMEM);
}

static void assert_cut(const struct err *err)
{
    assert_true(strlen(err->text) < sizeof(err->text));
    assert_true(strlen(err->text) > sizeof(err->text) - 10);
    assert_true(text_ends(err->text, "…"));
    assert_int_equal(text_utf8_prefix(span_of(err->text)), strlen(err->text));
}

static void a_long_sentence_is_cut_between_characters(void **state)
{
    char words[3000];

    /* Two-byte characters at both alignments, so that one of them would be cut in half. */
    for (size_t shift = 0; shift < 2; shift++) {
        struct err err = {};
        memset(words, 'x', shift);
        for (size_t i = shift; i + 2 < sizeof(words); i += 2)
            memcpy(words + i, "é\0", 3);
        err_set(&err, EINVAL, "%s", words);
        assert_cut(&err);
        err_set(&err, EINVAL, "short");
        err_wrap(&err, -EINVAL, "%s", words);
        assert_cut(&err);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(err_set_gives_code_and_sentence),
        cmocka_unit_test(err_wrap_puts_the_outer_context_first),
        cmocka_unit_test(what_a_terminal_would_obey_is_a_question_mark),
        cmocka_unit_test(err_may_be_null),
        cmocka_unit_test(a_long_sentence_is_cut_between_characters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
