/* Exceptions out of, through and caught inside replaced functions; virtual functions, templates, type information. */
//# flags: -O2
//# option: --replace _Z4failRKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE=new_fail
//# option: --replace _Z6middleRKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE=new_middle
//# option: --replace _Z5guardRKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE=new_guard
//# option: --replace _ZNK6Square4areaEv=new_area
//# option: --replace _Z5twiceIiET_S0_=new_twice
//# option: --replace _Z6refuseRKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE=new_refuse
//# ask: out => fail(out) thrown in the target; undone 0 | new fail(out) thrown in the patch; undone 0
//# ask: through => through: thrown by deep; undone 0 | through: thrown by deep; undone 1
//# ask: inside => inside: not caught; undone 0 | inside: caught in the patch: inside: thrown by deep; undone 1
//# option: --replace _Z5provei=new_prove --replace _Z4safei=new_safe
//# ask: original => 10 -1 9 | 1010 8 10
//# ask: area => 9 | 12
//# ask: twice => 42 | 43
//# ask: refuse => Refused 7 | Refused 8
#include <stdexcept>
#include <string>

struct Refused {
    int code;
    explicit Refused(int code) : code(code) {}
    virtual ~Refused() {}
};
struct Shape {
    virtual int area() const = 0;
    virtual ~Shape() {}
};
struct Square : Shape {
    int side;
    explicit Square(int side) : side(side) {}
    int area() const override;
};
extern int undone;
struct Undo {
    ~Undo() { undone++; }
};
void deep(const std::string &what);

int danger(int n);

#ifdef PATCH
#include "livepatch.h"
extern "C" {
int _Z5provei(int n);
int _Z4safei(int n);
void new_fail(const std::string &what) { throw std::out_of_range("new fail(" + what + ") thrown in the patch"); }
void new_middle(const std::string &what)
{
    Undo undo;
    deep(what);
}
std::string new_guard(const std::string &what)
{
    try {
        Undo undo;
        deep(what);
    } catch (const std::logic_error &e) {
        return "wrong clause";
    } catch (const std::exception &e) {
        return "inside: caught in the patch: " + std::string(e.what());
    }
    return "nothing was thrown";
}
/* The old one begins with a call, which is moved; what it throws passes through the old function. */
int new_prove(int n)
{
    try {
        return LP_ORIGINAL(_Z5provei)(n) + 1000;
    } catch (int thrown) {
        return thrown;
    }
}
/* The old one begins with a call too, and catches what it throws. */
int new_safe(int n) { return LP_ORIGINAL(_Z4safei)(n) + 1; }
int new_area(const Square *square) { return 4 * square->side; }
int new_twice(int n) { return 2 * n + 1; }
void new_refuse(const std::string &what)
{
    if (!what.empty())
        throw Refused{8}; /* its type information is in the target too */
}
}
#else
#include "talk.h"

int undone;
REPLACEABLE int Square::area() const { return side * side; }

REPLACEABLE void fail(const std::string &what)
{
    if (!what.empty())
        throw std::out_of_range("fail(" + what + ") thrown in the target");
}
REPLACEABLE void deep(const std::string &what)
{
    if (!what.empty())
        throw std::runtime_error(what + ": thrown by deep");
}
REPLACEABLE void middle(const std::string &what)
{
    deep(what);
    undone = -1000; /* never: and so the call above is no jump */
}
REPLACEABLE std::string guard(const std::string &what)
{
    if (what.empty())
        deep("guard");
    return "inside: not caught";
}
REPLACEABLE void refuse(const std::string &what)
{
    if (!what.empty())
        throw Refused{7};
}
REPLACEABLE int danger(int n)
{
    if (n < 0)
        throw -n;
    return n;
}
REPLACEABLE int prove(int n) { return danger(n) + 3; }
REPLACEABLE int safe(int n)
{
    try {
        return danger(n);
    } catch (int thrown) {
        return thrown;
    }
}
template <class T> REPLACEABLE T twice(T n) { return 2 * n; }
template int twice<int>(int);

static int try_prove(int n)
{
    try {
        return prove(n);
    } catch (int) {
        return -1;
    }
}

static std::string answer(const std::string &what)
{
    try {
        if (what == "out")
            fail(what);
        if (what == "through")
            middle(what);
        if (what == "inside")
            return guard(what);
        if (what == "refuse")
            refuse(what);
    } catch (const Refused &e) {
        return "Refused " + std::to_string(e.code);
    } catch (const std::out_of_range &e) {
        return e.what();
    } catch (const std::runtime_error &e) {
        return e.what();
    }
    return "no exception";
}

int main()
{
    const Shape *volatile shape = new Square(3);

    ready();
    while (asked()) {
        std::string what = question;
        undone = 0;
        if (what == "area")
            SAY("%d", shape->area());
        else if (what == "original")
            SAY("%d %d %d", prove(7), try_prove(-8), safe(-9));
        else if (what == "twice")
            SAY("%d", twice(21));
        else if (what == "refuse")
            SAY("%s", answer(what).c_str());
        else {
            std::string said = answer(what);
            SAY("%s; undone %d", said.c_str(), undone);
        }
    }
}
#endif
