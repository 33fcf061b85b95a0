import jakarta.servlet.annotation.WebServlet;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.TreeSet;

/**
 * The shop of the monolith. It writes a row for each order into a book before it answers, and says what it read and wrote in the
 * fields that the crate figspan-ledger compares; a cart lives in a session, and so in the memory of one Tomcat.
 */
@WebServlet({"/orders", "/cart/*"})
public class Shop extends HttpServlet {
    private static final Path BOOK = Path.of("/var/log/tomcat10/book");
    private static final int LARGE_EVERY = 61, SMALL = 8 * 1024, LARGE = 256 * 1024;

    private transient FileChannel book;

    @Override
    public void init() {
        try {
            book = FileChannel.open(BOOK, StandardOpenOption.CREATE, StandardOpenOption.WRITE, StandardOpenOption.APPEND);
        } catch (IOException error) {
            throw new IllegalStateException("no book, no shop", error);
        }
    }

    @Override
    protected void service(HttpServletRequest request, HttpServletResponse answer) throws IOException {
        if (request.getServletPath().equals("/cart")) {
            cart(request, answer);
        } else {
            order(request, answer);
        }
    }

    /** PUT adds a thing to the cart, however often it is said; every answer is the list of what is in it. */
    private void cart(HttpServletRequest request, HttpServletResponse answer) throws IOException {
        var session = request.getSession();
        TreeSet<String> things;
        synchronized (this) {
            var kept = (TreeSet<?>) session.getAttribute("things");
            things = new TreeSet<>();
            if (kept != null) {
                kept.forEach(thing -> things.add((String) thing));
            }
            if (request.getMethod().equals("PUT")) {
                things.add(request.getPathInfo().substring(1));
                session.setAttribute("things", things);
            }
        }
        answer.getOutputStream().print(String.join(",", things));
    }

    private void order(HttpServletRequest request, HttpServletResponse answer) throws IOException {
        // Nothing is entered of a body that did not come whole: nobody has acted upon it.
        long received = sum(request.getInputStream().readAllBytes());
        String id = request.getHeader("x-try-id");
        if (id == null) {
            answer.getOutputStream().print("open");
            return;
        }
        String row = id + " " + request.getMethod() + " " + Long.toHexString(received) + "\n";
        synchronized (this) {
            book.write(ByteBuffer.wrap(row.getBytes(StandardCharsets.US_ASCII)));
        }
        byte[] body = body(Long.parseUnsignedLong(id, 16));
        byte[] told = request.getMethod().equals("HEAD") ? new byte[0] : body;
        answer.setHeader("x-try-id", id);
        answer.setHeader("x-try-received", Long.toHexString(received));
        answer.setHeader("x-try-wrote", told.length + " " + Long.toHexString(sum(told)));
        answer.setHeader("x-try-by", "monolith");
        // Some in chunks, most with a length.
        if (body.length % 8 != 0) {
            answer.setContentLength(body.length);
        }
        answer.getOutputStream().write(told);
    }

    /** Bytes that follow from the id. */
    private static byte[] body(long id) {
        int most = Long.remainderUnsigned(id, LARGE_EVERY) == 1 ? LARGE : SMALL;
        byte[] body = new byte[64 + (int) Long.remainderUnsigned(id * 31, most)];
        for (int at = 0; at < body.length; at++) {
            body[at] = (byte) Long.remainderUnsigned(id * 31 + at * 7L, 251);
        }
        return body;
    }

    /** FNV-1a of 64 bits, as figspan-ledger sums. */
    private static long sum(byte[] bytes) {
        long sum = 0xcbf29ce484222325L;
        for (byte one : bytes) {
            sum = (sum ^ (one & 0xff)) * 0x100000001b3L;
        }
        return sum;
    }
}
