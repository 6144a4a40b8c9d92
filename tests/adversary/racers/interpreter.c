/* What an entry of binfmt_misc runs in the launcher's place: it tells that it ran. */
#include <stdio.h>

int main(void) {
    dprintf(2, "code that was not measured\n");
    return 3;
}
