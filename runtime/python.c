/* A plain interpreter on the base layer's libpython: what compiles modules and reads interfaces at build. */
#include <Python.h>

int main(int argc, char **argv) { return Py_BytesMain(argc, argv); }
