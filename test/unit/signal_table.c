/* SPDX-License-Identifier: MIT */
/* signal_table -- the table of signals against libc and the kernel, and names in every spelling */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "child.h"
#include "kit.h"
#include <errno.h>
#include <naru/signal.h>
#include <stdbool.h>
#include <sys/prctl.h>

enum { TEST_LAST = 64 };

static void test_names(void **state)
{
    struct naru_signal_row row;
    char text[32];

    (void)state;
    for (int number = 1; number <= TEST_LAST; number++) {
        assert_int_equal(naru_signal_describe(number, &row), 0);
        assert_int_equal(row.number, number);
        assert_true(row.meaning && row.meaning[0]);
        assert_int_equal(naru_signal_number(row.name), number);
        snprintf(text, sizeof text, "%d", number);
        assert_int_equal(naru_signal_number(text), number);
        if (row.alias)
            assert_int_equal(naru_signal_number(row.alias), number);
        if (number < 32)
            assert_string_equal(number == SIGIO ? row.alias + 3 : row.name + 3,
                                sigabbrev_np(number));
        assert_int_equal(row.is_real_time, number >= 32);
        assert_int_equal(row.is_libcs, number >= 32 && number < SIGRTMIN);
        assert_int_equal(row.is_fixed, number == SIGKILL || number == SIGSTOP);
    }
    for (int distance = 0; SIGRTMIN + distance <= SIGRTMAX; distance++) {
        snprintf(text, sizeof text, "SIGRTMIN+%d", distance);
        assert_int_equal(naru_signal_number(text), SIGRTMIN + distance);
        assert_int_equal(naru_signal_number(text + 3), SIGRTMIN + distance);
        snprintf(text, sizeof text, "rtmax-%d", distance);
        assert_int_equal(naru_signal_number(text), SIGRTMAX - distance);
    }
    assert_int_equal(naru_signal_number("RTMIN"), SIGRTMIN);
    assert_int_equal(naru_signal_number("sigrtmax"), SIGRTMAX);
    assert_int_equal(naru_signal_number("term"), SIGTERM);
    assert_int_equal(naru_signal_number("SigUsr1"), SIGUSR1);
    assert_int_equal(naru_signal_number("iot"), SIGABRT);
    assert_int_equal(naru_signal_number("CLD"), SIGCHLD);
    assert_int_equal(naru_signal_number("SIGPOLL"), SIGIO);
    assert_int_equal(naru_signal_number("0"), 0);
}

static void test_wrong_names(void **state)
{
    static const char *const wrong[] = {
        "",         "SIG",    "FOO",     "SIGSIGTERM", "TERM ",    " TERM",
        "TERMS",    "65",     "-1",      "-9",         "9x",       "99999999999999999999",
        "RTMIN-1",  "RTMIN+", "RTMAX+1", "RTMIN+99",   "RTMIN+-1", "RTMIN+31",
        "RTMAX-31", "RTMAX1", "SIG9",    "RT",
    };
    struct naru_signal_row row = {.number = 77};

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        if (naru_signal_number(wrong[i]) != -EINVAL)
            fail_msg("\"%s\" is signal %d", wrong[i], naru_signal_number(wrong[i]));
        assert_text_has("is no signal");
        assert_text_has("naru signals");
    }
    assert_int_equal(naru_signal_number(NULL), -EINVAL);
    assert_int_equal(naru_signal_describe(0, &row), -EINVAL);
    assert_int_equal(naru_signal_describe(-1, &row), -EINVAL);
    assert_int_equal(naru_signal_describe(TEST_LAST + 1, &row), -EINVAL);
    assert_int_equal(naru_signal_describe(SIGINT, NULL), -EINVAL);
    assert_int_equal(row.number, 77);
}

/* -- the default actions, as the kernel takes them ------------------------------------------ */

static void test_action_child(void *context)
{
    int number = *(int *)context;

    setpgid(0, 0);             /* where the terminal's stops count: our parent is in the session */
    prctl(PR_SET_DUMPABLE, 0); /* no core file */
    if (number != SIGKILL && number != SIGSTOP)
        signal(number, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    raise(number);
}

static void test_actions(void **state)
{
    struct naru_signal_row row;

    (void)state;
    if (nr_kit_is_valgrind()) {
        print_message("SKIP: valgrind takes the default actions in the kernel's stead\n");
        skip();
    }
    for (int number = 1; number <= TEST_LAST; number++) {
        int status;
        assert_int_equal(naru_signal_describe(number, &row), 0);
        if (row.is_libcs)
            continue;
        pid_t pid = child_start(test_action_child, &number);
        assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
        bool ends = row.action == NARU_SIGNAL_ENDS || row.action == NARU_SIGNAL_DUMPS;
        if (WIFSIGNALED(status) != ends || (ends && WTERMSIG(status) != number) ||
            WIFSTOPPED(status) != (row.action == NARU_SIGNAL_STOPS))
            fail_msg("%s: its action is %d, and the child's status is %x", row.name, row.action,
                     (unsigned)status);
        if (WIFSTOPPED(status)) {
            kill(pid, SIGKILL);
            child_end(pid);
        }
    }
    /* The one that neither of these shows */
    assert_int_equal(naru_signal_describe(SIGCONT, &row), 0);
    assert_int_equal(row.action, NARU_SIGNAL_CONTINUES);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_wrong_names),
        cmocka_unit_test(test_actions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
