/* SPDX-License-Identifier: MIT */
#include "input.h"
#include "output.h"
#include <stdlib.h>

char *nr_input_read(FILE *file, size_t *ret_size_bytes)
{
    size_t room_bytes = 64 * 1024;
    size_t size_bytes = 0;
    char *text = malloc(room_bytes);

    while (text) {
        size_bytes += fread(text + size_bytes, 1, room_bytes - size_bytes - 1, file);
        if (size_bytes < room_bytes - 1)
            break;
        char *larger = realloc(text, room_bytes *= 2);
        if (!larger)
            free(text);
        text = larger;
    }
    if (!text) {
        nr_output_complain("there is no memory for a message of %zu bytes", size_bytes);
        return NULL;
    }
    text[size_bytes] = '\0';
    *ret_size_bytes = size_bytes;
    return text;
}
