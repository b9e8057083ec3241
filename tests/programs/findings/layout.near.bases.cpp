/* Classes of the library, whose bases stand in type units of their own; names with ABI tags, which nobody writes. */
//# flags: -O2 -std=c++17 -fdebug-types-section -gdwarf-4
//# patch-flags: -std=c++17
//# option: --replace shop::describe=shop::new_describe --replace shop::total=shop::new_total
#include "talk.h"
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
namespace shop
{
struct Order {
    std::string who;
    std::map<std::string, int> items;
    std::optional<double> tip;
    std::unique_ptr<int> number;
    std::variant<int, std::string> kind;
};
#ifdef PATCH
int new_total(const Order &order) { return (int)order.items.size() + (int)order.kind.index(); }
std::string new_describe(const Order &order) { return order.who + std::to_string(order.number ? *order.number : 0); }
#else
REPLACEABLE int total(const Order &order)
{
    return order.items.empty() ? (int)order.kind.index() : order.items.begin()->second;
}
REPLACEABLE std::string describe(const Order &order) { return order.who + std::to_string(order.tip.value_or(0)); }
#endif
} // namespace shop
#ifndef PATCH
int main()
{
    ready();
    while (asked()) {
        shop::Order order;
        order.who = question;
        order.items[question] = 1;
        SAY("%s %d", shop::describe(order).c_str(), shop::total(order));
    }
    return 0;
}
#endif
