/* What the runtime asks its launcher: the built-in module kluis_launcher. */
#ifndef KLUIS_MODULE_H
#define KLUIS_MODULE_H

/* Have the interpreter know the module; before it is initialised. Not 0 where there is no memory for it. */
int module_install(void);
#endif
