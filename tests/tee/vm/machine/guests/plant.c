/* A guest that fills its memory with words, says so on its first port, and counts them again when asked. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>

#define WORDS 100000

static uint64_t kept[WORDS];

/* splitmix64 */
static uint64_t word(uint64_t seed, uint64_t index) {
    uint64_t z = seed + (index + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

int main(void) {
    char said[64], byte;
    mount("dev", "/dev", "devtmpfs", 0, NULL);
    uint64_t seed = strtoull(getenv("seed"), NULL, 16);
    int port = open("/dev/vport0p1", O_RDWR);
    for (uint64_t i = 0; i < WORDS; i++) kept[i] = word(seed, i);
    for (;;) {
        unsigned there = 0;
        for (uint64_t i = 0; i < WORDS; i++) there += kept[i] == word(seed, i);
        int length = snprintf(said, sizeof said, "%u\n", there);
        if (write(port, said, length) != length) puts("the port is closed");
        while (read(port, &byte, 1) != 1) usleep(1000);
    }
}
