/* SPDX-License-Identifier: MIT */
/* topic [URI] -- one process publishes prices; three subscribe, and each of them gets every one */
#include <naru/endpoint.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SUBSCRIBERS = 3, PRICES = 1000 };

/* It gets what is published from its naru_open() on, which it tells the publisher of. */
static int subscribe(const char *uri, int number, int ready)
{
    struct naru_options options = {.size_bytes = sizeof options, .pattern = NARU_TOPIC};
    struct naru_endpoint *subscriber;
    double price, sum = 0;

    if (naru_open(&subscriber, uri, NARU_RECEIVER, &options) < 0 || write(ready, "", 1) != 1)
        goto failed;
    for (int i = 0; i < PRICES; i++) {
        if (naru_recv(subscriber, &price, sizeof price, NULL, 10 * NARU_SECOND) < 0)
            goto failed;
        sum += price;
    }
    printf("subscriber %d: %d prices, the last one %.2f, %.2f on average\n", number, PRICES, price,
           sum / PRICES);
    naru_close(subscriber);
    return 0;

failed:
    fprintf(stderr, "subscriber %d: %s\n", number, naru_error_text());
    return 1;
}

/* It waits for the slowest subscriber, as long as that lives: nothing is lost. */
static int publish(const char *uri, int ready)
{
    struct naru_options options = {.size_bytes = sizeof options, .pattern = NARU_TOPIC};
    struct naru_endpoint *publisher;
    int result = naru_open(&publisher, uri, NARU_SENDER, &options);
    char byte;

    for (int i = 0; i < SUBSCRIBERS; i++)
        if (read(ready, &byte, 1) != 1)
            return 1;
    for (int i = 1; i <= PRICES && result == 0; i++) {
        double price = 100 + i / 100.0;
        result = naru_send(publisher, &price, sizeof price, 10 * NARU_SECOND);
    }
    if (result < 0)
        fprintf(stderr, "publisher: %s\n", naru_error_text());
    else
        naru_close(publisher);
    return result < 0;
}

int main(int argc, char **argv)
{
    const char *uri = argc > 1 ? argv[1] : "shm://example-prices";
    int failed, status, ready[2];

    if (pipe(ready) < 0)
        return 1;
    for (int i = 1; i <= SUBSCRIBERS; i++)
        if (fork() == 0)
            return subscribe(uri, i, ready[1]);
    close(ready[1]);
    failed = publish(uri, ready[0]);
    while (wait(&status) > 0)
        failed |= status != 0;
    naru_unlink(uri);
    return failed;
}
