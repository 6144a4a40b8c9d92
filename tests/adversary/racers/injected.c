/* A library that the environment's LD_PRELOAD or LD_AUDIT brings in: that it is mapped is all it does. */
unsigned int la_version(unsigned int version) { return version; }
