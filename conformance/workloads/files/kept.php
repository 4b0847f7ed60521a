<?php
header('Content-Type: text/plain');
if (isset($_GET['put'])) file_put_contents('/srv/data/kept', $_GET['put'] . "\n", FILE_APPEND | LOCK_EX);
if (isset($_GET['say'])) error_log($_GET['say']);
echo php_sapi_name(), "\n", is_file('/srv/data/kept') ? file_get_contents('/srv/data/kept') : '';
