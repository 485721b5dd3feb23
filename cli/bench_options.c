/* SPDX-License-Identifier: MIT */
#include "bench_options.h"
#include "arguments.h"
#include "output.h"
#include <getopt.h>
#include <naru/transport.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NR_BENCH_DURATION_NS     (NARU_SECOND * 15 / 100)
#define NR_BENCH_DURATION_MAX_NS (5 * NARU_SECOND)

const char nr_bench_help[] =
    "Usage: naru bench [OPTION]...\n"
    "\n"
    "Measures latency (half a round trip, each by itself) and rate (one way) between processes, for\n"
    "each transport and pattern. Beside each row stands a probe: what a bare hand-over of the same\n"
    "payload costs between the same cores, taken before, between and after. Virtual cores are moved\n"
    "about, so only the ratio to the probe can be compared between runs. A row whose probe moved is\n"
    "measured again; one that never settled is marked with ~.\n"
    "\n"
    "  --transport LIST   shm,file,pipe,fifo,mq,sysv,unix,abstract,tcp,signal (default: all)\n"
    "  --pattern LIST     queue,topic,call,cell (default: all that the transport has)\n"
    "  --size LIST        payload, in bytes or with k, M (default 64,4k; signal: always 8)\n"
    "  --mode LIST        how to wait for a message (default spin,block):\n"
    "                     spin   each side on a core of its own, in no sleep. shm:// does that by itself\n"
    "                            in a call that waits; the others are asked with a time-out of 0\n"
    "                     block  both on one core, in a call that sleeps\n"
    "                     epoll  the same in epoll_wait(2), on naru_fd()\n"
    "                     alone  one thread sends and receives\n"
    "  --senders N, --receivers N\n"
    "                     processes, of the rate; of a topic's latency also receivers (default 1)\n"
    "  --participants N   shm://: so many are attached in all, most of them idle\n"
    "  --cpu A,B          cores of senders and of receivers; more than two processes share both\n"
    "  --duration S       of one measurement, up to 5 (default 0.15; two for each row)\n"
    "  --batch N          rate by naru_send_many() and naru_recv_many(), N at a time\n"
    "  --capacity N       messages that the channel holds\n"
    "  --loan             in place: naru_loan(), naru_take(); the payload is not touched\n"
    "  --one-to-one       shm:// for one sender and one receiver\n"
    "  --pair             by naru_pair() where the transport has it\n"
    "  --json             an array of objects, one for each row\n"
    "  --compare          beside other libraries, in turns; `make compare` builds what it needs\n"
    "  --figures          the table of goals: measured, wanted, met or not (a few minutes)\n"
    "  --peers DIR        where the other libraries' drivers are (default: ../bench/peers from here)\n"
    "\n"
    "Examples:\n"
    "  naru bench\n"
    "  naru bench --transport shm --one-to-one --size 8,64,1k,64k --mode spin\n"
    "  naru bench --transport shm,pipe,unix --mode block --json\n"
    "  naru bench --transport shm --senders 2 --batch 32\n"
    "\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage.\n";

static const struct option nr_bench_long_options[] = {
    {"transport", required_argument, NULL, 't'},
    {"pattern", required_argument, NULL, 'p'},
    {"size", required_argument, NULL, 's'},
    {"mode", required_argument, NULL, 'm'},
    {"senders", required_argument, NULL, 'S'},
    {"receivers", required_argument, NULL, 'R'},
    {"participants", required_argument, NULL, 'P'},
    {"cpu", required_argument, NULL, 'c'},
    {"duration", required_argument, NULL, 'd'},
    {"batch", required_argument, NULL, 'b'},
    {"capacity", required_argument, NULL, 'C'},
    {"loan", no_argument, NULL, 'l'},
    {"one-to-one", no_argument, NULL, 'o'},
    {"pair", no_argument, NULL, 'q'},
    {"json", no_argument, NULL, 'j'},
    {"compare", no_argument, NULL, 'x'},
    {"figures", no_argument, NULL, 'f'},
    {"peers", required_argument, NULL, 'D'},
    {0},
};

static const char *const nr_bench_pattern_names[] =
    {[NARU_QUEUE] = "queue", [NARU_TOPIC] = "topic", [NARU_CALL] = "call", [NARU_CELL] = "cell"};

/* -- lists ---------------------------------------------------------------------------------------- */

static int nr_bench_add_transport(struct nr_bench_options *options, const char *word)
{
    const struct naru_transport_row *row;

    for (size_t i = 0; (row = naru_transport_row(i)); i++) {
        if (strcmp(row->scheme, word) != 0)
            continue;
        options->transports[options->transports_count++] = row->scheme;
        return 0;
    }
    return nr_output_complain_usage("--transport: \"%s\" is none of shm, file, pipe, fifo, mq, "
                                    "sysv, unix, abstract, tcp, signal",
                                    word);
}

static int nr_bench_add_pattern(struct nr_bench_options *options, const char *word)
{
    for (unsigned i = NARU_QUEUE; i <= NARU_CELL; i++) {
        if (strcmp(nr_bench_pattern_names[i], word) != 0)
            continue;
        options->patterns[options->patterns_count++] = i;
        return 0;
    }
    return nr_output_complain_usage("--pattern: \"%s\" is none of queue, topic, call, cell", word);
}

static int nr_bench_add_mode(struct nr_bench_options *options, const char *word)
{
    for (unsigned i = 0; i < sizeof nr_bench_mode_names / sizeof nr_bench_mode_names[0]; i++) {
        if (strcmp(nr_bench_mode_names[i], word) != 0)
            continue;
        options->modes[options->modes_count++] = i;
        return 0;
    }
    return nr_output_complain_usage("--mode: \"%s\" is none of spin, block, epoll, alone", word);
}

static int nr_bench_add_size(struct nr_bench_options *options, const char *word)
{
    size_t size_bytes;
    int code = nr_arguments_size(&size_bytes, "--size", word);

    if (code)
        return code;
    if (size_bytes < 1 || size_bytes > NR_BENCH_SIZE_MAX)
        return nr_output_complain_usage("--size: \"%s\" is not from 1 to 64M", word);
    options->sizes[options->sizes_count++] = size_bytes;
    return 0;
}

/* Hands over each word of a list with commas. */
static int nr_bench_list(struct nr_bench_options *options, const char *name, const char *text,
                         int (*add)(struct nr_bench_options *, const char *))
{
    char word[64];
    int code = 0;

    for (unsigned count = 0; !code; count++) {
        size_t length = strcspn(text, ",");
        if (length >= sizeof word || count == NR_BENCH_LIST_MAX)
            return nr_output_complain_usage("%s: the list is too long", name);
        memcpy(word, text, length);
        word[length] = '\0';
        code = add(options, word);
        if (!text[length])
            break;
        text += length + 1;
    }
    return code;
}

/* -- single values ---------------------------------------------------------------------------------- */

static int nr_bench_number(unsigned *ret, const char *option, int highest)
{
    __int128 number;
    int code = nr_arguments_integer(&number, option, optarg, 1, highest);

    if (!code)
        *ret = (unsigned)number;
    return code;
}

static int nr_bench_parse_cpu(struct nr_bench_options *options)
{
    cpu_set_t allowed;
    int end = 0;

    if (sscanf(optarg, "%d,%d%n", &options->cpu[0], &options->cpu[1], &end) != 2 || optarg[end])
        return nr_output_complain_usage("--cpu: \"%s\" is not two numbers such as 0,1", optarg);
    sched_getaffinity(0, sizeof allowed, &allowed);
    for (int i = 0; i < 2; i++)
        if (options->cpu[i] < 0 || options->cpu[i] >= CPU_SETSIZE ||
            !CPU_ISSET(options->cpu[i], &allowed))
            return nr_output_complain_usage("--cpu: this process may not run on core %d",
                                            options->cpu[i]);
    return 0;
}

static int nr_bench_parse_duration(struct nr_bench_options *options)
{
    int64_t duration_ns;
    int code = nr_arguments_seconds(&duration_ns, "--duration", optarg);

    if (code)
        return code;
    if (duration_ns < NARU_MILLISECOND || duration_ns > NR_BENCH_DURATION_MAX_NS)
        return nr_output_complain_usage("--duration: \"%s\" is not from 0.001 to 5 seconds",
                                        optarg);
    options->duration_ns = duration_ns;
    return 0;
}

static int nr_bench_parse_option(struct nr_bench_options *options, int option)
{
    unsigned capacity = 0;
    int code = 0;

    switch (option) {
    case 't':
        return nr_bench_list(options, "--transport", optarg, nr_bench_add_transport);
    case 'p':
        return nr_bench_list(options, "--pattern", optarg, nr_bench_add_pattern);
    case 's':
        return nr_bench_list(options, "--size", optarg, nr_bench_add_size);
    case 'm':
        return nr_bench_list(options, "--mode", optarg, nr_bench_add_mode);
    case 'S':
        return nr_bench_number(&options->senders, "--senders", BENCH_WORKERS_MAX / 2);
    case 'R':
        return nr_bench_number(&options->receivers, "--receivers", BENCH_WORKERS_MAX / 2);
    case 'P':
        return nr_bench_number(&options->participants, "--participants", 1024);
    case 'b':
        return nr_bench_number(&options->batch, "--batch", NR_BENCH_BATCH_MAX);
    case 'C':
        code = nr_bench_number(&capacity, "--capacity", 1 << 20);
        options->capacity = capacity;
        return code;
    case 'c':
        return nr_bench_parse_cpu(options);
    case 'd':
        return nr_bench_parse_duration(options);
    case 'D':
        nr_bench_peers_directory = optarg;
        return 0;
    case 'l':
    case 'o':
    case 'q':
    case 'j':
    case 'x':
    case 'f':
        *(option == 'l'   ? &options->loan
          : option == 'o' ? &options->one_to_one
          : option == 'q' ? &options->pair
          : option == 'j' ? &options->json
          : option == 'x' ? &options->compare
                          : &options->figures) = true;
        return 0;
    default:
        return nr_output_hint_usage();
    }
}

/* -- together ----------------------------------------------------------------------------------------- */

static void nr_bench_find_cpus(struct nr_bench_options *options)
{
    cpu_set_t allowed;
    int count = 0;

    sched_getaffinity(0, sizeof allowed, &allowed);
    for (int cpu = 0; cpu < CPU_SETSIZE && count < 2; cpu++)
        if (CPU_ISSET(cpu, &allowed))
            options->allowed_cpu[count++] = cpu;
}

static int nr_bench_check(struct nr_bench_options *options)
{
    bool is_one_core =
        options->cpu[0] >= 0 ? options->cpu[0] == options->cpu[1] : options->allowed_cpu[1] < 0;

    for (unsigned i = 0; i < options->modes_count; i++)
        if (options->modes[i] == NR_BENCH_MODE_SPIN && is_one_core)
            return nr_output_complain_usage(
                "--mode spin needs two cores: on one, who spins keeps the other from running");
    if (options->modes_count == 0) {
        if (!is_one_core)
            options->modes[options->modes_count++] = NR_BENCH_MODE_SPIN;
        options->modes[options->modes_count++] = NR_BENCH_MODE_BLOCK;
    }
    if (options->loan && options->batch > 1)
        return nr_output_complain_usage("--loan and --batch exclude each other");
    if (options->one_to_one && options->pair)
        return nr_output_complain_usage("--one-to-one and --pair exclude each other: a pair is "
                                        "one to one");
    for (unsigned i = 0; options->compare && i < options->modes_count; i++)
        if (options->modes[i] != NR_BENCH_MODE_SPIN && options->modes[i] != NR_BENCH_MODE_BLOCK)
            return nr_output_complain_usage("--compare knows the modes spin and block");
    if (options->compare && options->figures)
        return nr_output_complain_usage("--compare and --figures exclude each other");
    return 0;
}

int nr_bench_options_parse(struct nr_bench_options *options, int argc, char **argv)
{
    int code = 0;
    int option;

    *options = (struct nr_bench_options){
        .senders = 1,
        .receivers = 1,
        .batch = 1,
        .cpu = {-1, -1},
        .allowed_cpu = {0, -1},
    };
    nr_bench_find_cpus(options);
    while (!code && (option = getopt_long(argc, argv, "", nr_bench_long_options, NULL)) != -1)
        code = nr_bench_parse_option(options, option);
    if (code)
        return code;
    if (optind < argc)
        return nr_output_complain_usage("\"%s\" is one argument too many", argv[optind]);
    if (options->sizes_count == 0) {
        static const size_t usual[] = {64, 4096}, compared[] = {8, 64, 1024, 65536};
        options->sizes_count = options->compare ? 4 : 2;
        memcpy(options->sizes, options->compare ? compared : usual,
               options->sizes_count * sizeof options->sizes[0]);
    }
    return nr_bench_check(options);
}

struct bench_task nr_bench_options_task(const struct nr_bench_options *options,
                                        enum nr_bench_mode mode, size_t size_bytes)
{
    const int *allowed = options->allowed_cpu;
    struct bench_task task = {
        .wait = mode == NR_BENCH_MODE_SPIN    ? BENCH_SPIN
                : mode == NR_BENCH_MODE_EPOLL ? BENCH_EPOLL
                                              : BENCH_BLOCK,
        .size_bytes = size_bytes,
        .senders = options->senders,
        .receivers = options->receivers,
        .batch = options->batch,
        .participants = options->participants,
        .capacity = options->capacity,
        .loan = options->loan,
        .cpu = {allowed[0], mode == NR_BENCH_MODE_SPIN ? allowed[1] : allowed[0]},
        .duration_ns = options->duration_ns ? options->duration_ns : NR_BENCH_DURATION_NS,
    };

    if (options->cpu[0] >= 0)
        memcpy(task.cpu, options->cpu, sizeof task.cpu);
    return task;
}
