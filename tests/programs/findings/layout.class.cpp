/* A virtual function was inserted: the new code would call the wrong one. A field comes before another one. */
//# flags: -O2
//# patch-flags: -femit-class-debug-always
//# option: --replace _Z7measureP5Shape=new_measure
//# finds: virtual function 1 is area in the target, name in the patch
//# finds: struct Shape has 16 bytes in the target and 24 in the patch
//# finds: +8 int id (4 bytes) in the target, +16 int id (4 bytes) in the patch
#include "talk.h"
struct Shape {
    virtual int sides();
#ifdef PATCH
    virtual int name();
#endif
    virtual int area();
#ifdef PATCH
    long tag;
#endif
    int id;
};
#ifdef PATCH
extern "C" int new_measure(Shape *shape) { return shape->area() + shape->sides() + shape->id; }
#else
int Shape::sides() { return 4; }
int Shape::area() { return id; }
REPLACEABLE int measure(Shape *shape) { return shape->area() + shape->id; }
int main()
{
    Shape shape;
    shape.id = 3;
    ready();
    while (asked())
        SAY("%d", measure(&shape));
    return 0;
}
#endif
