/* A first program that ends: the kernel panics. */
int main(void) { return 7; }
