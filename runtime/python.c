/* A plain interpreter on the base layer's libpython: compiles modules and reads interfaces during builds. */
#include <Python.h>

int main(int argc, char **argv) { return Py_BytesMain(argc, argv); }
