print('total', 6)
print('ß ✓')
