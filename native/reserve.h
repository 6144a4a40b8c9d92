/* A small memory reserve that lets the interpreter report an exhausted heap. */
#ifndef KLUIS_RESERVE_H
#define KLUIS_RESERVE_H

/* Install the reserve in the interpreter's raw allocator; before the interpreter starts. */
void reserve_install(void);
#endif
