/* A little memory for when there is none: what the interpreter needs to say so. */
#ifndef KLUIS_RESERVE_H
#define KLUIS_RESERVE_H

/* Put the reserve below the interpreter's raw allocator; before the interpreter starts. */
void reserve_install(void);
#endif
