/* Classes with bases and virtual functions in type units of their own, read from another version of DWARF. */
//# flags: -O2 -fdebug-types-section -gdwarf-4
//# patch-flags: -gdwarf-5
//# option: --replace _Z7measureP6Square=new_measure
#include "talk.h"
#include <string>
struct Shape {
    virtual ~Shape() = default;
    virtual int area() const = 0;
    int id : 3, kind : 5;
    bool last;
    std::string name;
    static int count;
};
struct Square final : Shape {
    int side = 2;
    int area() const override;
};
#ifdef PATCH
extern "C" int new_measure(Square *shape) { return 10 * shape->area() + shape->id + (int)shape->name.size(); }
#else
int Shape::count;
int Square::area() const { return side * side; }
REPLACEABLE int measure(Square *shape) { return shape->area() + shape->id + (int)shape->name.size(); }
int main()
{
    Square square;
    square.id = 1;
    ready();
    while (asked())
        SAY("%d", measure(&square));
    return 0;
}
#endif
