#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "memory.h"
#include "module.h"
#include "pages.h"
#include "sha256.h"

#include <unistd.h>

#define PART 16384 /* bytes: they are read to the stack, whose pages are expensive */

static PyObject *refused_code(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    return PyBool_FromLong(memory_refused_code());
}

static PyObject *set_aside(PyObject *module, PyObject *bytes) {
    (void)module;
    size_t n = PyLong_AsSize_t(bytes);
    if (n == (size_t)-1 && PyErr_Occurred()) return NULL;
    pages_set_aside(n);
    Py_RETURN_NONE;
}

static PyObject *warm(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    memory_warm();
    Py_RETURN_NONE;
}

static PyObject *finish(struct sha256 *hash) {
    unsigned char digest[SHA256_BYTES];
    sha256_end(hash, digest);
    return PyBytes_FromStringAndSize((const char *)digest, sizeof digest);
}

static PyObject *sha256(PyObject *module, PyObject *given) {
    struct sha256 hash;
    Py_buffer data;
    (void)module;
    if (PyObject_GetBuffer(given, &data, PyBUF_SIMPLE)) return NULL;
    sha256_begin(&hash);
    sha256_add(&hash, data.buf, (size_t)data.len);
    PyBuffer_Release(&data);
    return finish(&hash);
}

static PyObject *sha256_file(PyObject *module, PyObject *descriptor) {
    struct sha256 hash;
    unsigned char part[PART];
    ssize_t n;
    off_t at = 0;
    long fd = PyLong_AsLong(descriptor);
    (void)module;
    if (fd == -1 && PyErr_Occurred()) return NULL;
    sha256_begin(&hash);
    Py_BEGIN_ALLOW_THREADS
    while ((n = pread((int)fd, part, sizeof part, at)) > 0) {
        sha256_add(&hash, part, (size_t)n);
        at += n;
    }
    Py_END_ALLOW_THREADS
    return n < 0 ? PyErr_SetFromErrno(PyExc_OSError) : finish(&hash);
}

static PyObject *create(void) {
    static PyMethodDef methods[] = {
        {"refused_code", refused_code, METH_NOARGS, "Whether a library requested executable memory and was refused."},
        {"set_aside", set_aside, METH_O, "Reserve so many bytes of the heap; 0 frees them."},
        {"warm", warm, METH_NOARGS, "Touch pages of the heap ahead of their use, from now on, in a thread."},
        {NULL, NULL, 0, NULL},
    };
    static PyMethodDef hashing[] = {
        {"sha256", sha256, METH_O, "SHA-256 of bytes, 32 bytes, by the processor's own instructions."},
        {"sha256_file", sha256_file, METH_O, "SHA-256 of an open file from its start, 32 bytes."},
        {NULL, NULL, 0, NULL},
    };
    static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "kluis_launcher", .m_methods = methods};
    PyObject *made = PyModule_Create(&definition);
    if (made && sha256_here() && PyModule_AddFunctions(made, hashing)) Py_CLEAR(made);
    return made;
}

int module_install(void) { return PyImport_AppendInittab("kluis_launcher", create); }
