<%@ page contentType="text/plain" import="java.nio.file.*" %><%
    Path kept = Path.of(System.getProperty("catalina.base"), "logs", "kept");
    String put = request.getParameter("put"), say = request.getParameter("say");
    if (put != null) Files.writeString(kept, put + "\n", StandardOpenOption.CREATE, StandardOpenOption.APPEND);
    if (say != null) System.out.println("said " + say);
    out.println("tomcat processors=" + Runtime.getRuntime().availableProcessors() + " heap=" + Runtime.getRuntime().maxMemory());
    if (Files.exists(kept)) out.print(Files.readString(kept));
%>
