/*
 * Lines of decimal numbers, each rounded to the nearest float64.
 *
 * Numbers of few digits are exact in float64, and so are the powers of ten up to the 22nd: one multiplication or division
 * of them rounds correctly (Clinger, "How to Read Floating Point Numbers Accurately", 1990). The same holds for the 64
 * bits of x86's long double, which then are rounded once more: that is wrong at most where they end halfway between two
 * float64. All others go to the C library.
 */

#define DIGITS 19       /* that always fit into 64 bits */
#define POWERS 28       /* of ten, exact in 64 bits */
#define EXACT_POWERS 23 /* and in 53 */

#if LDBL_MANT_DIG == 64
typedef long double wide;
#else
typedef double wide; /* of whose powers only the exact ones are used */
#endif

static wide powers[POWERS];
static locale_t plain_locale;

static int begin_decimals(void)
{
    powers[0] = 1;
    for (int i = 1; i < POWERS; i++)
        powers[i] = powers[i - 1] * 10;
    return (plain_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0)) ? 0 : -1;
}

/* The float64 nearest to a whole number times a power of ten; says whether it could be told. */
static inline int scale(uint64_t whole, int64_t power, double *number)
{
    int64_t size = power < 0 ? -power : power;
    if (!whole || (whole <= (uint64_t)1 << DBL_MANT_DIG && size < EXACT_POWERS)) {
        double factor = (double)powers[whole ? size : 0];
        *number = power < 0 ? (double)whole / factor : (double)whole * factor;
        return 1;
    }
#if LDBL_MANT_DIG == 64
    if (size < POWERS) {
        wide scaled = power < 0 ? (wide)whole / powers[size] : (wide)whole * powers[size];
        uint64_t bits;
        memcpy(&bits, &scaled, sizeof bits);
        *number = (double)scaled;
        return (bits & 0x7ff) != 0x400;
    }
#endif
    return 0;
}

static inline const char *skip_blanks(const char *at)
{
    while (*at == ' ' || *at == '\t')
        at++;
    return at;
}

/* Reads one cell; gives what follows it, or NULL if it is no finite number. */
static inline const char *read_cell(const char *at, double *number)
{
    unsigned only = (unsigned)(*at - '0');
    if (only < 10 && at[1] == ',') { /* as in tables with a column for each of many kinds */
        *number = only;
        return at + 1;
    }
    at = skip_blanks(at);
    const char *start = at;
    int negative = *at == '-', any = 0;
    uint64_t whole = 0;
    int64_t digits = 0, power = 0;
    at += negative || *at == '+';
    for (unsigned digit; (digit = (unsigned)(*at - '0')) < 10; at++, any = 1) {
        whole = 10 * whole + digit;
        digits += whole != 0;
    }
    if (*at == '.') {
        const char *point = at++;
        for (unsigned digit; (digit = (unsigned)(*at - '0')) < 10; at++, any = 1) {
            whole = 10 * whole + digit;
            digits += whole != 0;
        }
        power = point + 1 - at;
    }
    if (!any)
        return NULL;
    if (*at == 'e' || *at == 'E') {
        int64_t exponent = 0;
        int less = *++at == '-';
        at += less || *at == '+';
        if ((unsigned)(*at - '0') > 9)
            return NULL;
        for (unsigned digit; (digit = (unsigned)(*at - '0')) < 10; at++)
            exponent = exponent < (int64_t)1 << 50 ? 10 * exponent + digit : exponent; /* more than any text is long */
        power += less ? -exponent : exponent;
    }
    if (digits > DIGITS || !scale(whole, power, number)) {
        *number = strtod_l(start, NULL, plain_locale);
        return isfinite(*number) ? skip_blanks(at) : NULL;
    }
    if (negative)
        *number = -*number;
    return skip_blanks(at);
}

/*
 * Reads lines of as many numbers each into as many places as there are commas and line ends; the last byte ends a line.
 * Gives the number of columns, or 0 if they are anything else.
 */
static Py_ssize_t read_lines(const char *text, const char *end, double *numbers)
{
    Py_ssize_t columns = 0;
    while (text < end) {
        Py_ssize_t column = 0;
        for (;; text++) {
            if (!(text = read_cell(text, numbers++)))
                return 0;
            column++;
            if (*text != ',')
                break;
        }
        text += *text == '\r';
        if (*text++ != '\n' || (columns && column != columns))
            return 0;
        columns = column;
    }
    return columns;
}
