/* The built-in module kluis_launcher: the launcher's functions for the runtime. */
#ifndef KLUIS_MODULE_H
#define KLUIS_MODULE_H

/* Register the module with the interpreter, before its initialisation. Not 0 if memory is exhausted. */
int module_install(void);
#endif
