/* SPDX-License-Identifier: MIT */
/*
 * transports -- prints the library's table of techniques: what naru_open() decides by
 */
#include "command.h"
#include "json.h"
#include "output.h"
#include <getopt.h>
#include <naru/transport.h>
#include <string.h>

static const char nr_transports_help[] =
    "Usage: naru transports [SCHEME] [--json]\n"
    "\n"
    "Tells what each technique can do and what holds when a process is killed; of one scheme, all that\n"
    "is known. It is the table by which naru_open() itself decides.\n"
    "\n"
    "Options:\n"
    "  --json    an array with an object for each scheme and pattern\n"
    "\n"
    "Examples:\n"
    "  naru transports\n"
    "  naru transports mq\n"
    "  naru transports --json\n"
    "\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage.\n";

static const struct option nr_transports_options[] = {
    {"json", no_argument, NULL, 'j'},
    {0},
};

static const char *const nr_transports_patterns[] = {
    [NARU_QUEUE] = "queue",
    [NARU_TOPIC] = "topic",
    [NARU_CALL] = "call",
    [NARU_CELL] = "cell",
};

enum { NR_TRANSPORTS_COLUMNS = 6, NR_TRANSPORTS_GAP = 2 };

struct nr_transports_cell {
    const char *rest; /* what is still to be printed */
    size_t width;
};

static const char *nr_transports_bold(bool on)
{
    if (!nr_output_has_colour(stdout))
        return "";
    return on ? "\033[1m" : "\033[0m";
}

/* One table row, as many lines high as its fullest cell. */
static void nr_transports_print_row(struct nr_transports_cell cells[NR_TRANSPORTS_COLUMNS])
{
    bool more = true;

    while (more) {
        size_t blanks = 0;

        more = false;
        for (int i = 0; i < NR_TRANSPORTS_COLUMNS; i++) {
            size_t fit = nr_output_fit(cells[i].rest, cells[i].width);

            if (fit)
                printf("%*s%.*s", (int)blanks, "", (int)fit, cells[i].rest);
            blanks = (fit ? 0 : blanks) + cells[i].width - fit + NR_TRANSPORTS_GAP;
            cells[i].rest += fit;
            cells[i].rest += strspn(cells[i].rest, " ");
            more |= cells[i].rest[0] != '\0';
        }
        putchar('\n');
    }
}

static void nr_transports_print_table(void)
{
    const struct naru_transport_row *row;
    static const size_t widths[NR_TRANSPORTS_COLUMNS] = {8, 13, 18, 20, 22, 18};

    printf("%s", nr_transports_bold(true));
    nr_transports_print_row((struct nr_transports_cell[NR_TRANSPORTS_COLUMNS]){
        {"SCHEME", widths[0]},
        {"TECHNIQUE", widths[1]},
        {"LARGEST MESSAGE", widths[2]},
        {"RECEIVERS", widths[3]},
        {"SENDER KILLED", widths[4]},
        {"RECEIVER KILLED", widths[5]},
    });
    printf("%s", nr_transports_bold(false));
    for (size_t i = 0; (row = naru_transport_row(i)); i++) {
        if (!row->supported || row->pattern != NARU_QUEUE)
            continue;
        nr_transports_print_row((struct nr_transports_cell[NR_TRANSPORTS_COLUMNS]){
            {row->scheme, widths[0]},
            {row->technique, widths[1]},
            {row->largest, widths[2]},
            {row->receivers, widths[3]},
            {row->sender_killed, widths[4]},
            {row->receiver_killed, widths[5]},
        });
    }
}

static bool nr_transports_is_same_refusal(const struct naru_transport_row *a,
                                          const struct naru_transport_row *b)
{
    return !a->supported && !b->supported && a->pattern == b->pattern &&
           strcmp(a->note, b->note) == 0;
}

/* The refusals of one pattern, those with the same reason together. */
static void nr_transports_print_refusals(enum naru_pattern pattern)
{
    const struct naru_transport_row *row, *other;

    for (size_t i = 0; (row = naru_transport_row(i)); i++) {
        bool is_first = !row->supported && row->pattern == pattern;

        for (size_t j = 0; is_first && j < i; j++)
            is_first = !nr_transports_is_same_refusal(naru_transport_row(j), row);
        if (!is_first)
            continue;
        printf("  %-6s ", nr_transports_patterns[pattern]);
        const char *comma = "";
        for (size_t j = i; (other = naru_transport_row(j)); j++) {
            if (!nr_transports_is_same_refusal(row, other))
                continue;
            printf("%s%s", comma, other->scheme);
            comma = ", ";
        }
        puts(":");
        nr_output_paragraph(stdout, row->note, 9, 100);
    }
}

static void nr_transports_print_all(void)
{
    nr_transports_print_table();
    printf(
        "\nEach carries the pattern `queue`: every message to exactly one receiver. Other patterns:\n");
    const struct naru_transport_row *row;
    for (size_t i = 0; (row = naru_transport_row(i)); i++)
        if (row->supported && row->pattern != NARU_QUEUE)
            printf("  %-6s %s: yes\n", nr_transports_patterns[row->pattern], row->scheme);
    for (enum naru_pattern pattern = NARU_TOPIC; pattern <= NARU_CELL; pattern++)
        nr_transports_print_refusals(pattern);
    printf("\n`naru transports SCHEME` tells more.\n");
}

static void nr_transports_print_one(const struct naru_transport_row *row)
{
    printf("%s%s:// %s%s\n", nr_transports_bold(true), row->scheme,
           nr_transports_patterns[row->pattern], nr_transports_bold(false));
    if (!row->supported) {
        printf("  no: %s\n", row->note);
        return;
    }
    printf("  technique        %s\n", row->technique);
    printf("  example          %s\n", row->example);
    printf("  largest message  %s\n", row->largest);
    printf("  receivers        %s\n", row->receivers);
    printf("  sender killed    %s\n", row->sender_killed);
    printf("  receiver killed  %s\n", row->receiver_killed);
    printf("  descriptor       %s\n", row->descriptor);
    printf("  naru_pair()      %s\n", row->can_pair ? "yes" : "no");
    printf("  both by name     %s\n", row->can_be_both ? "yes" : "no");
    if (row->note[0])
        printf("  note             %s\n", row->note);
}

static void nr_transports_print_json_row(struct nr_json *json, const struct naru_transport_row *row)
{
    const struct {
        const char *key, *value;
    } texts[] = {
        {"example", row->example},
        {"receivers", row->receivers},
        {"sender_killed", row->sender_killed},
        {"receiver_killed", row->receiver_killed},
        {"descriptor", row->descriptor},
        {"largest", row->largest},
        {"note", row->note},
    };

    nr_json_begin(json, NULL, '{');
    nr_json_text(json, "scheme", row->scheme);
    nr_json_text(json, "technique", row->technique);
    nr_json_text(json, "pattern", nr_transports_patterns[row->pattern]);
    nr_json_bool(json, "supported", row->supported);
    nr_json_bool(json, "can_pair", row->can_pair);
    nr_json_bool(json, "can_be_both", row->can_be_both);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (texts[i].value)
            nr_json_text(json, texts[i].key, texts[i].value);
        else
            nr_json_null(json, texts[i].key);
    }
    nr_json_end(json, '}');
}

static int nr_transports_run(int argc, char **argv)
{
    struct nr_json json = {.file = stdout};
    const struct naru_transport_row *row;
    bool wants_json = false;
    int found_count = 0;
    int option;

    while ((option = getopt_long(argc, argv, "", nr_transports_options, NULL)) != -1) {
        if (option != 'j')
            return nr_output_hint_usage();
        wants_json = true;
    }
    if (argc - optind > 1)
        return nr_output_complain_usage("\"%s\" is one argument too many", argv[optind + 1]);
    char *scheme = argv[optind];
    if (scheme && strstr(scheme, "://")) /* who gives a URI means its scheme */
        *strstr(scheme, "://") = '\0';
    for (size_t i = 0; scheme && (row = naru_transport_row(i)); i++)
        found_count += strcmp(row->scheme, scheme) == 0;
    if (scheme && !found_count)
        return nr_output_complain_usage("there is no technique %s://", scheme);
    if (!scheme && !wants_json) {
        nr_transports_print_all();
        return NR_EXIT_OK;
    }
    if (wants_json)
        nr_json_begin(&json, NULL, '[');
    for (size_t i = 0; (row = naru_transport_row(i)); i++) {
        if (scheme && strcmp(row->scheme, scheme) != 0)
            continue;
        if (wants_json)
            nr_transports_print_json_row(&json, row);
        else
            nr_transports_print_one(row);
    }
    if (wants_json) {
        nr_json_end(&json, ']');
        putchar('\n');
    }
    return NR_EXIT_OK;
}

const struct nr_command nr_transports_command = {
    .name = "transports",
    .summary = "what each technique can do, and what holds when a process is killed",
    .help = nr_transports_help,
    .run = nr_transports_run,
};
